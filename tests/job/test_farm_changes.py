"""Devices that a run goes on with, beside those that it was begun with."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from render.farm.messages import WorkerFacts
from render.job.farm_changes import device_change, mixed_devices
from tests.conftest import TINY

_VERSIONS = {"render": "1", "python": "3.11", "jax": "0.10.2", "cudnn": "91002", "driver": "570.133.20"}


def worker(device: str = "NVIDIA H200", **versions: str) -> WorkerFacts:
    return WorkerFacts("host", 1, device, "gpu", 1, 1, 1, 0, 1, _VERSIONS | versions)


def recorded(*workers: WorkerFacts) -> Any:
    """The workers as `run.json` has them."""
    return json.loads(json.dumps([vars(one) for one in workers]))


def test_the_same_devices_are_no_change() -> None:
    assert device_change(recorded(worker()), [worker(), worker()]) is None
    assert device_change(recorded(worker()), [worker(render="2", python="3.12")]) is None
    assert mixed_devices([worker(), worker()]) is None


@pytest.mark.parametrize(
    ("now", "words"),
    [
        (worker("NVIDIA A100"), ["device NVIDIA H200 then, NVIDIA A100 now"]),
        (worker(cudnn="91300"), ["cudnn 91002 then, 91300 now"]),
        (worker(driver="580.1", jax="0.11.0"), ["driver 570.133.20 then, 580.1 now", "jax 0.10.2 then, 0.11.0 now"]),
        (WorkerFacts("host", 1, "cpu", "cpu", 1, 1, 1, 0), ["NVIDIA H200 then, cpu now", "cudnn 91002 then, unknown now"]),
    ],
)
def test_other_devices_and_libraries_are_named_with_both_sides(now: WorkerFacts, words: list[str]) -> None:
    change = device_change(recorded(worker()), [now])
    assert change is not None
    for word in words:
        assert word in change


def test_workers_that_differ_from_each_other_are_named() -> None:
    mixture = mixed_devices([worker(), worker("NVIDIA A100")])
    assert mixture == "device NVIDIA A100 and NVIDIA H200"


@pytest.mark.parametrize(
    "record", [None, [], "workers", [1, None], [{}], [{"device": 3}], [{"device": "cpu", "versions": "none"}]]
)
def test_a_record_of_somebody_else_is_read_as_far_as_it_goes(record: Any) -> None:
    facts = WorkerFacts("host", 1, "cpu", "cpu", 1, 1, 1, 0)
    assert device_change(record, [facts]) is None


def test_a_record_moves_no_cursor() -> None:
    change = device_change([{"device": "cpu\x1b[2J\nrender: all is well" + "x" * 10_000}], [worker()])
    assert change is not None
    assert change.isprintable()
    assert len(change) < 500


@pytest.mark.slow
def test_a_run_that_goes_on_with_another_device_says_so(command, tmp_path: Path) -> None:
    words = (*TINY, "octaves.steps=2", "checkpoint.every=0", "output.dir=run")
    assert command("render", *words).code == 0
    record = tmp_path / "run" / "run.json"
    facts = json.loads(record.read_text())
    assert [one["device"] for one in facts["workers"]] == ["cpu"]
    facts["workers"][0]["device"], facts["status"] = "NVIDIA H200", "interrupted"
    record.write_text(json.dumps(facts))
    finished = command("render", *words)
    assert finished.code == 0, finished.err
    said = finished.out + finished.err
    assert "going on with other devices (device NVIDIA H200 then, cpu now): sums may be rounded differently" in said
    # The record has the new ones, so it is said once.
    assert [one["device"] for one in json.loads(record.read_text())["workers"]] == ["cpu"]
