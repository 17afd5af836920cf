"""The benchmark of a GPU, forced onto the CPU in tiny sizes: every item runs for real, and a failure is one line."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from itertools import groupby
from pathlib import Path

import pytest

from render.networks.platforms import tracing_for
from tests.benchmarks import gpu, gpu_items
from tests.benchmarks.gpu import Item, Line, completed, measured
from tests.benchmarks.gpu_items import QUICK, lines_of
from tests.conftest import ROOT

PRECISIONS = ("bfloat16", "tensorfloat32", "float32")


@pytest.mark.slow
def test_every_item_is_measured(tmp_path: Path) -> None:
    finished = subprocess.run(
        [sys.executable, "-m", "tests.benchmarks.gpu", "--quick", "--out", "lines.jsonl", "--minutes", "30"],
        cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True, timeout=1800,
    )  # fmt: skip
    assert finished.returncode == 0, finished.stdout
    lines: list[Line] = [json.loads(line) for line in finished.stdout.splitlines()]
    assert (tmp_path / "lines.jsonl").read_text() == finished.stdout
    by_item = {name: list(group) for name, group in groupby(lines, lambda line: line["item"])}
    assert [name for name in by_item if name != "checksums"] == [item.name for item in gpu._items()]
    assert {line["precision"] for line in by_item["products"][:-1]} == set(PRECISIONS)
    assert 0 < by_item["gradient"][0]["difference"] < 1e-5
    for layer in ("mixed5", "inception_4c"):
        for precision in PRECISIONS:
            line = by_item[f"kernel:{layer}:{precision}"][0]
            figures = ("milliseconds", "tflops", "share_of_product", "compile_seconds", "kernel_gb", "planned_gb")
            assert min(line[figure] for figure in figures) > 0
            assert line["core"] < line["window"]
    assert [(line["flags"], line["agree"]) for line in lines if line["item"] == "checksums"] == [
        ("deterministic", True),
        ("autotuned", True),
    ]
    coarse, fine, _ = by_item["steps"]
    assert coarse["rows"] < fine["rows"] == 160
    assert min(fine["change_s"], fine["step_ms"], by_item["laplacian"][0]["step_ms"]) > 0
    assert by_item["laplacian"][0]["laplacian"] > 0
    ranks = [line["rank"] for line in by_item["trace"][:-1]]
    assert ranks == list(range(1, len(ranks) + 1))
    assert len(ranks) > 5
    assert by_item["batches"][0]["batch"] > 1


def test_an_item_that_fails_is_one_line_and_the_next_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(_sizes: object) -> None:
        raise RuntimeError("no\nwonder")

    monkeypatch.setitem(gpu_items.ITEMS, "device", fails)  # type: ignore[arg-type]
    assert list(lines_of("device", QUICK)) == [{"item": "device", "error": "RuntimeError: no"}]
    *figures, last = lines_of("products", QUICK)
    assert all(line["tflops"] > 0 for line in figures)
    assert last["seconds"] > 0


def test_a_gradient_in_tensorfloat32_is_a_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpu_items, "MAX_DIFFERENCE", 1e-12)
    with tracing_for("gpu"):
        figure, last = lines_of("gradient", QUICK)
    assert figure["difference"] > 1e-12
    assert "TensorFloat-32" in last["error"]


class Scripted:
    """A process' lines, without the process."""

    def __init__(self, items: list[Item], *, quick: bool) -> None:
        self.started.append([item.name for item in items])
        texts = {"good": '{"item": "good", "seconds": 1}', "crash": None}
        self.lines: gpu.queue.Queue[str | None] = gpu.queue.Queue()
        for item in items:
            if item.name == "hang":
                break
            self.lines.put(texts[item.name])
            if item.name == "crash":
                break

    started: list[list[str]]

    def end(self) -> str:
        return "exit code -9: "


def test_what_crashes_or_hangs_costs_the_others_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Scripted, "started", [], raising=False)
    monkeypatch.setattr(gpu, "_Child", Scripted)
    monkeypatch.setattr(gpu, "_START_S", 0.0)
    items = [Item("good", 5), Item("crash", 5), Item("hang", 0.05), Item("good", 5), Item("good", 5, "--flag")]
    lines = list(measured(items, 60, quick=True))
    assert [line["item"] for line in lines] == ["good", "crash", "hang", "good", "good"]
    assert "exit code -9" in lines[1]["error"]
    assert lines[2]["error"] == "took longer than 0.05 s"
    assert Scripted.started == [["good", "crash", "hang", "good"], ["hang", "good"], ["good"], ["good"]]


def test_what_no_time_is_left_for_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Scripted, "started", [], raising=False)
    monkeypatch.setattr(gpu, "_Child", Scripted)
    lines = list(measured([Item("hang", 60), Item("good", 60)], 1.05, quick=True))
    assert [line["error"] for line in lines] == ["not done: the time is over", "not begun: the time is over"]


def test_two_processes_that_differ_are_a_failure() -> None:
    lines = [{"item": f"checksum:{name}", "sha256": name} for name in ("first", "second", "tuned first", "tuned second")]
    agreements = [line for line in completed(iter(lines)) if line["item"] == "checksums"]
    assert [line["agree"] for line in agreements] == [False, False]
    assert ["error" in line for line in agreements] == [True, False]
