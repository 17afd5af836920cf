"""Metrics and logs of a render on a cluster: Prometheus' numbers, their dashboard, and logs that programs read."""

from __future__ import annotations

import json
import logging
import os
import re
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from render.config.compose import load_config
from render.farm.conductor import bytes_exchanged
from render.farm.events import Noticed, OctaveStarted, Recovered, Saved, StepDone, TilesDone
from render.farm.ray.metrics import METRICS, PREFIX, Metrics
from render.geometry.blocks import deal_blocks
from render.job.job import draft
from render.system.logs import JsonLines, is_cluster_job, log_to
from tests.conftest import ROOT
from tests.support import ray_head
from tests.support.farm_job import JOB
from tests.support.ray_head import Head

DASHBOARD = ROOT / "cluster" / "grafana.json"
_RAY = str(Path(sys.executable).with_name("ray"))


# The dashboard


def test_the_dashboard_asks_for_no_metric_that_is_not_told_and_for_all_that_are() -> None:
    board = json.loads(DASHBOARD.read_text())
    queries = [target["expr"] for panel in board["panels"] for target in panel["targets"]]
    queries += [entry["definition"] for entry in board["templating"]["list"] if entry["type"] == "query"]
    published = set(METRICS) | {f"{name}_bucket" for name, entry in METRICS.items() if entry.kind == "histogram"}
    queried = {name for query in queries for name in re.findall(rf"\b{PREFIX}(\w+)", query)}
    assert queried <= published
    assert {name.removesuffix("_bucket") for name in queried} == set(METRICS)
    # A counter by itself only grows: what counts is its rate.
    for name, entry in METRICS.items():
        if entry.kind == "counter":
            assert all(re.search(rf"(rate|increase)\({PREFIX}{name}\b", query) for query in queries if name in query)


def test_the_dashboard_has_what_grafana_imports() -> None:
    """https://grafana.com/docs/grafana/latest/dashboards/build-dashboards/view-dashboard-json-model/"""
    board = json.loads(DASHBOARD.read_text())
    assert board["title"]
    assert isinstance(board["schemaVersion"], int)
    assert "id" not in board, "an id is of one Grafana's own"
    assert len({panel["id"] for panel in board["panels"]}) == len(board["panels"])
    variables = {variable["name"] for variable in board["templating"]["list"]}
    taken_cells: set[tuple[int, int]] = set()
    for panel in board["panels"]:
        place = panel["gridPos"]
        cells = {
            (x, y) for x in range(place["x"], place["x"] + place["w"]) for y in range(place["y"], place["y"] + place["h"])
        }
        assert max(x for x, _ in cells) < 24
        assert not cells & taken_cells
        taken_cells |= cells
        assert panel["title"]
        assert panel["datasource"] == {"type": "prometheus", "uid": "${datasource}"}
        assert all(target["refId"] and target["expr"] for target in panel["targets"])
        used = set(re.findall(r"\$\{?(\w+)", json.dumps(panel)))
        assert used <= variables | {"__rate_interval", "__range"}


# What is told


class Told:
    """Stands for a metric of Ray's, and keeps what it is told."""

    def __init__(self, name: str, *_: object) -> None:
        self.name, self.told = name, []

    def set_default_tags(self, tags: dict[str, str]) -> None:
        assert tags == {"run": "poster-1a2b"}

    def set(self, value: float = 1.0) -> None:
        self.told.append(value)

    inc = observe = set


def test_every_event_moves_its_metric(monkeypatch: pytest.MonkeyPatch) -> None:
    for kind in ("Gauge", "Counter", "Histogram"):
        monkeypatch.setattr(f"ray.util.metrics.{kind}", Told)
    now = [100.0]
    metrics = Metrics("poster-1a2b", lambda: now[0], repeat_period_s=None)
    octave = draft(load_config("preview", [*JOB, "octaves.count=1"])).plan.final
    octave = replace(octave, stage=replace(octave.stage, regions=octave.stage.regions * 2))
    rows, columns = octave.grid.window_shape

    def told(name: str) -> list[float]:
        return metrics._metrics[f"render_{name}"].told

    metrics.update(OctaveStarted(octave, 2, 3))
    assert (told("workers"), told("octave"), told("step")) == ([2], [1], [3])
    metrics.update(TilesDone(octave, 4))
    now[0] = 110.0
    metrics.update(StepDone(octave, 3, 1e-6, 2.5))
    assert told("tiles_total") == [4]
    assert told("step_seconds") == [2.5]
    assert told("step")[-1] == 4
    assert told("exchanged_bytes_total") == [bytes_exchanged(deal_blocks(octave.grid, 2))]
    pace = 4 * 2 * rows * columns / 1e6 / 10
    assert told("megapixels_per_second") == [pytest.approx(pace)]
    # Nothing was saved yet: since the beginning.
    metrics.repeat()
    assert told("checkpoint_age_seconds") == [10]
    now[0] = 112.0
    metrics.update(Saved(octave, 4, 0.1))
    now[0] = 120.0
    metrics.update(Recovered("gone", 1))
    metrics.repeat()
    assert told("checkpoint_age_seconds")[-1] == 8
    # Told before anything was lost: Prometheus sees an increase only from a value that it knew.
    assert told("losses_total") == [0.0, 1.0, 1.0]
    metrics.update(Noticed("spot", 1, 1, saved=True))
    assert told("notices_total") == [0.0, 0.0, 1.0]
    # No tile for 30 s: the pace is at most that of the last tiles over this time.
    now[0] = 140.0
    metrics.repeat()
    assert told("checkpoint_age_seconds")[-1] == 28
    assert told("megapixels_per_second")[-1] == pytest.approx(pace * 10 / 30)
    assert (told("workers")[-1], told("octave"), told("step")[-1]) == (2, [1, 1, 1, 1], 4)
    metrics.close()
    assert (told("workers")[-1], told("megapixels_per_second")[-1]) == (0, 0)


# A cluster


@dataclass
class Watched:
    """A cluster, and the `environment` of its clients, who need the token, too."""

    head: Head
    environment: dict[str, str]

    def run(self, *words: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run a command of Ray."""
        finished = subprocess.run(
            [_RAY, *words], env=self.environment, capture_output=True, text=True, timeout=120, check=False
        )
        assert not (check and finished.returncode), f"{finished.stdout}\n{finished.stderr}\n{self.head.log}"
        return finished

    def metrics(self) -> str:
        """Return what Prometheus reads of all endpoints that Ray lists for it."""
        listed = json.loads((self.head.directory / "prom_metrics_service_discovery.json").read_text())
        texts = []
        for target in (target for entry in listed for target in entry["targets"]):
            # Ray's own processes have some, too, of which not all may be there yet.
            with suppress(OSError):
                texts.append(_read(f"http://{target}/metrics"))
        return "\n".join(texts)


@pytest.fixture(scope="module")
def watched() -> Iterator[Watched]:
    """A cluster whose numbers are new every second, and whose jobs have a minute to end."""
    settings = {
        "RAY_metrics_report_interval_ms": "1000",
        "RAY_JOB_STOP_WAIT_TIME_S": "60",
        "RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S": "0",
        "RENDER_OVERRIDES": "",
    }
    with ray_head.started(**settings) as head:
        environment = {
            **os.environ,
            "RAY_AUTH_MODE": "token",
            **head.environment,
            "PYTHONPATH": str(ROOT),
            "RENDER_OVERRIDES": "",
        }
        environment.pop("RAY_ADDRESS", None)
        yield Watched(head, environment)


def _read(url: str) -> str:
    with urllib.request.urlopen(url, timeout=10) as answer:
        return str(answer.read().decode())


def _numbers(text: str, run: str) -> dict[str, float]:
    """Return the sum of each metric of a run over what else it is tagged with, from Prometheus' text."""
    sums: dict[str, float] = {}
    for line in text.splitlines():
        match = re.fullmatch(r"(\w+)\{(.*)\} (\S+)( \d+)?", line)
        if match and f'run="{run}"' in match[2]:
            sums[match[1]] = sums.get(match[1], 0.0) + float(match[3])
    return sums


@pytest.mark.slow
def test_prometheus_sees_a_render(watched: Watched, tmp_path: Path) -> None:
    """A small render on a real cluster, asked for at the endpoint that Ray names while it is under way."""
    words = [
        *JOB,
        "octaves.steps=300",
        f"farm.address={watched.head.address}",
        "farm.workers=2",
        "log=json",
        f"output.dir={tmp_path / 'seen'}",
    ]
    with (tmp_path / "out").open("wb") as out, ExitStack() as stack:
        command = [sys.executable, "-m", "render", "render", *words]
        render = stack.enter_context(
            subprocess.Popen(command, cwd=tmp_path, env=watched.environment, stdout=out, stderr=out)
        )
        stack.callback(render.kill)
        _watch(watched, render, tmp_path)


def _watch(watched: Watched, render: subprocess.Popen[bytes], tmp_path: Path) -> None:
    record = tmp_path / "seen" / "run.json"
    of_others = ("render_losses_total", "render_notices_total", "render_frames", "render_frames_ahead")
    expected = {f"{PREFIX}{name}" for name in METRICS if name not in of_others}
    expected = {name if "step_seconds" not in name else f"{name}_bucket" for name in expected}
    numbers: dict[str, float] = {}
    deadline = time.monotonic() + 75
    while not expected <= numbers.keys() or not numbers[f"{PREFIX}render_workers"]:
        report = f"{expected - numbers.keys()} missing\n{(tmp_path / 'out').read_text()}\n{watched.head.log}"
        assert render.poll() is None and time.monotonic() < deadline, report
        time.sleep(0.5)
        if record.exists():
            digest = json.loads(record.read_text())["digest"]
            numbers |= _numbers(watched.metrics(), f"seen-{digest[:8]}")
    assert numbers[f"{PREFIX}render_workers"] == 2
    assert numbers[f"{PREFIX}render_octave"] in (1, 2)
    assert 0 <= numbers[f"{PREFIX}render_step"] <= 300
    assert numbers[f"{PREFIX}render_tiles_total"] > 0
    assert numbers[f"{PREFIX}render_exchanged_bytes_total"] > 0
    assert numbers[f"{PREFIX}render_megapixels_per_second"] > 0
    render.terminate()
    assert render.wait(60) == 130, (tmp_path / "out").read_text()
    lines = [json.loads(line) for line in (tmp_path / "seen" / "render.log").read_text().splitlines()]
    assert {line["run"] for line in lines} == {f"seen-{digest[:8]}"}
    assert (lines[-1]["octave"], lines[-1]["message"][:17]) == (numbers[f"{PREFIX}render_octave"], "KeyboardInterrupt")


@pytest.mark.slow
def test_a_job_that_is_stopped_saves_first(watched: Watched, tmp_path: Path) -> None:
    """Ray sends SIGTERM, as a batch system or Kubernetes does, and waits: the same job goes on from where it was."""
    run = tmp_path / "stopped"
    words = [*JOB, "octaves.steps=500", "checkpoint.every=1000", "farm.address=auto", "farm.workers=2", "log=json"]
    command = [sys.executable, "-m", "render", "render", *words, f"output.dir={run}"]
    job = ["--address", watched.head.url]
    watched.run("job", "submit", *job, "--no-wait", "--submission-id", "stopped-1", "--", *command)
    deadline = time.monotonic() + 120
    while "octave 1 step 3:" not in ((run / "render.log").read_text() if (run / "render.log").exists() else ""):
        assert time.monotonic() < deadline, watched.run("job", "logs", *job, "stopped-1", check=False).stdout
        time.sleep(0.5)
    watched.run("job", "stop", *job, "stopped-1")
    assert json.loads((run / "run.json").read_text())["status"] == "interrupted"
    (newest, *_) = json.loads((run / "canvas" / "manifest.json").read_text())["checkpoints"]
    assert newest["octave"] == 0
    assert newest["steps"] >= 3
    printed = watched.run("job", "logs", *job, "stopped-1").stdout
    lines = [json.loads(line) for line in printed.splitlines() if line.startswith("{")]
    assert [line["message"] for line in lines if line["message"].startswith("saved octave 1, step")]
    assert (run / "render.log").read_text().splitlines() == [line for line in printed.splitlines() if line.startswith("{")]


# Logs


def test_a_log_for_programs_is_an_object_a_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    log = logging.getLogger("render.test")
    logging.getLogger("render").setLevel(logging.INFO)
    with pytest.raises(ZeroDivisionError), log_to(tmp_path / "render.log", lambda **_facts: None, json_of="poster-1a2b"):
        log.info("before %s", "it\nbegins")
        log.info("a step", extra={"octave": 2, "step": 7})
        log.warning("“odd”")
        try:
            _ = 1 / 0
        except ZeroDivisionError:
            log.exception("caught")
            raise
    lines = [json.loads(line) for line in (tmp_path / "render.log").read_text(encoding="utf-8").splitlines()]
    assert [line["message"] for line in lines[:4]] == ["before it\nbegins", "a step", "“odd”", "caught"]
    assert lines[4]["message"] == "ZeroDivisionError: division by zero"
    assert [line["level"] for line in lines] == ["info", "info", "warning", "error", "error"]
    assert all(line["run"] == "poster-1a2b" for line in lines)
    assert "octave" not in lines[0]
    assert all((line["octave"], line["step"]) == (2, 7) for line in lines[1:])
    assert "Traceback" in lines[3]["exception"]
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}\+00:00", lines[0]["time"])
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(
    ("job_config", "job"),
    [
        ('{"metadata": {"job_submission_id": "raysubmit_1"}}', True),
        ('{"metadata": null}', False),
        ("{}", False),
        ("[]", False),
        ("{", False),
    ],
)
def test_a_job_on_a_cluster_is_known(job_config: str, job: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_JOB_CONFIG_JSON_ENV_VAR", job_config)
    assert is_cluster_job() is job


def test_on_a_cluster_the_lines_are_the_jobs_output_too(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAY_JOB_CONFIG_JSON_ENV_VAR", '{"metadata": {"job_submission_id": "raysubmit_1"}}')
    logging.getLogger("render").setLevel(logging.INFO)
    for run in ("poster", None):
        with log_to(tmp_path / f"{run}.log", lambda **_facts: None, json_of=run):
            logging.getLogger("render.test").info("a line")
    assert capsys.readouterr().out == (tmp_path / "poster.log").read_text()
    assert json.loads((tmp_path / "poster.log").read_text())["message"] == "a line"
    assert (tmp_path / "None.log").read_text().endswith(" INFO a line\n")


def test_the_formatter_alone_knows_nothing_of_octaves() -> None:
    record = logging.LogRecord("render", logging.INFO, "x", 1, "hello", None, None)
    assert set(json.loads(JsonLines("r").format(record))) == {"time", "level", "run", "message"}


@pytest.mark.slow
def test_a_process_dreams_by_itself_joins_a_cluster_with_another_token_and_dreams_again(
    watched: Watched, tmp_path: Path
) -> None:
    """As a notebook may: nothing of one Ray is left in the environment, or in Ray's own memory, for the next."""
    script = f"""
import os, ray, render, render.farm
settings = dict(objective="mixed0", width=96, octaves={{"count": 1, "steps": 1}}, quiet=True)
before = dict(os.environ)
for name, farm in (("one", {{}}), ("two", {{}}), ("three", {{"address": {watched.head.address!r}}}), ("four", {{}})):
    theirs = {{"RAY_AUTH_MODE": "token", **{watched.head.environment!r}}} if farm else {{}}
    os.environ.update(theirs)
    render.dream("sample:chelsea", farm=farm, output={{"dir": name}}, **settings)
    for variable in theirs:
        os.environ.pop(variable, None)
    changed = {{key for key in before.keys() | os.environ.keys() if before.get(key) != os.environ.get(key)}}
    assert farm or not changed, changed
    before = dict(os.environ)
"""
    environment = {key: value for key, value in watched.environment.items() if not key.startswith("RAY_AUTH")}
    finished = subprocess.run(
        [sys.executable, "-c", script], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=300
    )
    assert finished.returncode == 0, finished.stdout + finished.stderr
