"""Metrics, dashboard and alert rules, by a real Prometheus that asks a real Ray."""

from __future__ import annotations

import contextlib
import json
import os
import re
import select
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from render.farm.ray.metrics import METRICS, PREFIX
from tests.conftest import ROOT
from tests.support import prometheus, ray_head
from tests.support.prometheus import Prometheus

ALERTS = ROOT / "cluster" / "alerts.yaml"
DASHBOARD = ROOT / "cluster" / "grafana.json"
RUN = "poster-1a2b3c4d"
#: A film's driver that reports events for 12 s, then nothing until a line comes, then a loss and a notice, and, after
#: another line, its end.
_DRIVER = f"""
import sys, time
import ray
from render.config.compose import load_config
from render.farm.events import Noticed, OctaveStarted, Recovered, Saved, StepDone, TilesDone
from render.farm.ray.metrics import Metrics
from render.job.job import draft
from tests.support.farm_job import JOB

octave = draft(load_config("preview", [*JOB, "octaves.count=1"])).plan.final
ray.init(address=sys.argv[1], log_to_driver=False)
metrics = Metrics("{RUN}")
metrics.update(OctaveStarted(octave, 2, 0))
metrics.set_frames(3, 2)
metrics.update(Saved(octave, 0, 0.1))
for step in range(24):
    metrics.update(TilesDone(octave, 2))
    metrics.update(StepDone(octave, step, 1e-6, 0.5))
    time.sleep(0.5)
print("quiet", flush=True)
sys.stdin.readline()
metrics.update(Recovered("gone", 1))
metrics.update(Noticed("spot", 1, 1, saved=True))
sys.stdin.readline()
metrics.close()
ray.shutdown()
"""


@pytest.fixture(scope="module", autouse=True)
def _installed() -> None:
    if not prometheus.is_installed():
        pytest.skip("needs Prometheus: as root it is installed with apt-get, else install Debian's package prometheus")


# Alert rules


def test_promtool_takes_the_alert_rules() -> None:
    result = prometheus.promtool("check", "rules", ALERTS)
    assert result.returncode == 0, result.stdout + result.stderr
    rules = [rule for group in yaml.safe_load(ALERTS.read_text())["groups"] for rule in group["rules"]]
    assert f"{len(rules)} rules found" in result.stdout
    for rule in rules:
        asked = set(re.findall(rf"\b{PREFIX}(\w+)", rule["expr"]))
        assert asked and asked <= set(METRICS), rule["alert"]
        assert rule["annotations"].keys() == {"summary", "description"} and "severity" in rule["labels"]


def _series(name: str, values: str, **labels: str) -> dict[str, str]:
    text = ",".join(f'{key}="{value}"' for key, value in {"run": RUN, **labels}.items())
    return {"series": f"{PREFIX}render_{name}{{{text}}}", "values": values}


#: What Prometheus has seen, a value a minute, and the alerts that are on after a time.
CASES: dict[str, tuple[list[dict[str, str]], str, set[str]]] = {
    "well": (
        [_series("workers", "4x90"), _series("tiles_total", "0+20x90"), _series("checkpoint_age_seconds", "60x90"),
         _series("losses_total", "0x30 1x60"), _series("notices_total", "0x90")],
        "80m", set(),
    ),
    "well, with two drivers one after another": (
        [_series("workers", "4x30", WorkerId="a"), _series("workers", "_x31 4x60", WorkerId="b"),
         _series("tiles_total", "0+20x30", WorkerId="a"), _series("tiles_total", "_x31 0+20x60", WorkerId="b")],
        "80m", set(),
    ),
    "no tile is done": ([_series("workers", "4x90"), _series("tiles_total", "0+20x30 600x60")], "80m", {"RenderStalled"}),
    "no tile was ever done": ([_series("workers", "4x90")], "40m", {"RenderStalled"}),
    "begins": ([_series("workers", "4x90")], "10m", set()),
    "saves no more": (
        [_series("workers", "4x90"), _series("tiles_total", "0+20x90"), _series("checkpoint_age_seconds", "60+60x90")],
        "75m", {"RenderNotSaved"},
    ),
    "killed": ([_series("workers", "4x30 stale")], "35m", {"RenderVanished"}),
    "ended": ([_series("workers", "4x29 0 stale")], "35m", set()),
    "loses workers": (
        [_series("workers", "4x90"), _series("tiles_total", "0+20x90"), _series("losses_total", "0x40 1 2 3 4 5x50")],
        "60m", {"RenderLosesWorkers"},
    ),
    "loses machines": (
        [_series("workers", "4x90"), _series("tiles_total", "0+20x90"), _series("notices_total", "0x40 2 4 6 8x50")],
        "60m", {"RenderMachinesTakenAway"},
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_alerts_fire_when_they_should_and_only_then(case: str, tmp_path: Path) -> None:
    """By promtool's own simulation; it fails if an alert that is expected is off, and if one is on that is not."""
    series, when, expected = CASES[case]
    rules = [rule for group in yaml.safe_load(ALERTS.read_text())["groups"] for rule in group["rules"]]
    assert expected <= {rule["alert"] for rule in rules}
    missed = []
    for rule in rules:
        result = _simulate(series, when, rule, on=rule["alert"] in expected, directory=tmp_path)
        if result.returncode:
            missed.append(f"{rule['alert']}: {result.stdout}{result.stderr}")
    assert missed == []


def _simulate(
    series: list[dict[str, str]], when: str, rule: dict[str, Any], *, on: bool, directory: Path
) -> subprocess.CompletedProcess[str]:
    """Run promtool's test of one alert, whose texts it would compare, too: so they are left out."""
    bare = {key: value for key, value in rule.items() if key != "annotations"}
    (directory / "rules.yaml").write_text(yaml.safe_dump({"groups": [{"name": "bare", "rules": [bare]}]}))
    alerts = [{"exp_labels": {"run": RUN, **rule["labels"]}}] if on else []
    test = {"eval_time": when, "alertname": rule["alert"], "exp_alerts": alerts}
    config = {
        "rule_files": ["rules.yaml"],
        "evaluation_interval": "1m",
        "tests": [{"interval": "1m", "input_series": series, "alert_rule_test": [test]}],
    }
    (directory / "test.yaml").write_text(yaml.safe_dump(config))
    return prometheus.promtool("test", "rules", directory / "test.yaml")


# A real Ray


@dataclass(frozen=True)
class Seen:
    """A driver that reports nothing now, and the Prometheus that has seen it."""

    server: Prometheus
    driver: subprocess.Popen[str]

    def tell(self, line: str) -> None:
        """Have the driver report what comes next."""
        assert self.driver.stdin is not None
        self.driver.stdin.write(line + "\n")
        self.driver.stdin.flush()


@pytest.fixture(scope="module")
def seen(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Seen]:
    directory = tmp_path_factory.mktemp("prometheus")
    with contextlib.ExitStack() as stack:
        # Ray forgets a gauge after 2 s then, as it does after 20 s by default.
        head = stack.enter_context(ray_head.started(RAY_metrics_report_interval_ms="1000"))
        targets = head.directory / "prom_metrics_service_discovery.json"
        server = stack.enter_context(prometheus.started(directory, targets, ALERTS))
        environment = {**os.environ, "RAY_AUTH_MODE": "token", **head.environment, "PYTHONPATH": str(ROOT)}
        environment.pop("RAY_ADDRESS", None)
        with (directory / "driver.log").open("w") as log:
            driver = subprocess.Popen(
                [sys.executable, "-c", _DRIVER, head.address],
                cwd=ROOT, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, text=True,
            )  # fmt: skip
        stack.enter_context(driver)
        stack.callback(driver.kill)
        assert driver.stdout is not None
        ready, _, _ = select.select([driver.stdout], [], [], 120)
        assert ready and driver.stdout.readline() == "quiet\n", f"{(directory / 'driver.log').read_text()}\n{head.log}"
        yield Seen(server, driver)


def _dashboard_queries() -> list[str]:
    """Return the dashboard's queries, with Grafana's variables as it fills them in."""
    board = json.loads(DASHBOARD.read_text())
    texts = [target["expr"] for panel in board["panels"] for target in panel["targets"]]
    variables = {"$run": ".*", "$__rate_interval": "2m", "$__range": "2m"}
    for name, value in variables.items():
        texts = [text.replace(name, value) for text in texts]
    assert not any("$" in text for text in texts)
    return texts


@pytest.mark.slow
def test_gauges_stay_while_nothing_happens_and_every_query_of_the_dashboard_is_answered(seen: Seen) -> None:
    server = seen.server
    chosen = f'{{run="{RUN}"}}'
    (first,) = server.eventually(f"{PREFIX}render_checkpoint_age_seconds{chosen}")
    # Ray forgets within 2 s, and what Prometheus has not seen at its last visit, it does not answer.
    time.sleep(8)
    assert server.eventually(f"{PREFIX}render_workers{chosen}") == [2]
    assert server.eventually(f"{PREFIX}render_octave{chosen}") == [1]
    assert server.eventually(f"{PREFIX}render_step{chosen}") == [24]
    assert server.eventually(f"{PREFIX}render_frames{chosen}") == [3]
    assert server.eventually(f"{PREFIX}render_frames_ahead{chosen}") == [2]
    (later,) = server.eventually(f"{PREFIX}render_checkpoint_age_seconds{chosen}")
    assert later - first > 2
    for query in _dashboard_queries():
        values = server.eventually(query)
        assert len(values) == 1, f"{query}: {values}"
    names = {series["metric"]["run"] for series in server.query(f"{PREFIX}render_workers")}
    assert names == {RUN}
    assert {rule["health"] for rule in server.rules()} == {"ok"}
    # One that waits for its time to fire may be pending: nothing happens, after all.
    assert "firing" not in {rule["state"] for rule in server.rules()}


@pytest.mark.slow
def test_the_first_loss_is_an_increase(seen: Seen) -> None:
    """It is none of a counter that Prometheus sees for the first time when it is 1."""
    increases = [f'increase({PREFIX}render_{name}_total{{run="{RUN}"}}[2m])' for name in ("losses", "notices")]
    assert [seen.server.eventually(increase) for increase in increases] == [[0], [0]]
    seen.tell("lose")
    for increase in increases:
        deadline = time.monotonic() + 30
        while not (values := seen.server.values(increase)) or values[0] < 0.5:
            assert time.monotonic() < deadline, values
            time.sleep(0.5)
        assert values[0] < 3


@pytest.mark.slow
def test_the_end_of_a_render_is_seen(seen: Seen) -> None:
    """The last value is 0 workers, by which an end differs from a loss; after that, the gauges are gone."""
    seen.tell("end")
    assert seen.driver.wait(60) == 0
    deadline = time.monotonic() + 30
    while seen.server.values(f"{PREFIX}render_workers"):
        assert time.monotonic() < deadline
        time.sleep(0.5)
    assert seen.server.values(f"last_over_time({PREFIX}render_workers[2m])") == [0]
