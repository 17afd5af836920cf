"""A real Prometheus on loopback: queries, and checks of rules by its own promtool."""

from __future__ import annotations

import contextlib
import json
import subprocess
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from tests.support.debian_packages import NotInstalled, install
from tests.support.ray_head import free_ports

_PATIENCE_S = 30.0


def is_installed() -> bool:
    """Return whether Prometheus and promtool are here; as root they are installed."""
    try:
        install(("prometheus",), ("prometheus", "promtool"))
    except NotInstalled:
        return False
    return True


def promtool(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """Run promtool; return its exit code and output."""
    return subprocess.run(["promtool", *map(str, arguments)], capture_output=True, text=True, timeout=60, check=False)


@dataclass(frozen=True)
class Prometheus:
    """A server that runs, at `url`."""

    url: str

    def query(self, expression: str) -> list[dict[str, Any]]:
        """Return the series of an expression, each with its labels in `metric` and its last time and `value`."""
        result = self._get("query", query=expression)["result"]
        assert isinstance(result, list)
        return result

    def values(self, expression: str) -> list[float]:
        """Return the last value of each series of an expression."""
        return [float(series["value"][1]) for series in self.query(expression)]

    def eventually(self, expression: str) -> list[float]:
        """Return the last values of an expression as soon as it has some; [] if it has none for long."""
        deadline = time.monotonic() + _PATIENCE_S
        while not (values := self.values(expression)) and time.monotonic() < deadline:
            time.sleep(0.5)
        return values

    def rules(self) -> list[dict[str, Any]]:
        """Return all rules as the server has read and evaluated them."""
        return [rule for group in self._get("rules")["groups"] for rule in group["rules"]]

    def _get(self, path: str, **parameters: str) -> dict[str, Any]:
        url = f"{self.url}/api/v1/{path}?{urllib.parse.urlencode(parameters)}"
        try:
            with urllib.request.urlopen(url, timeout=10) as answer:
                data = json.load(answer)["data"]
        except urllib.error.HTTPError as error:
            raise AssertionError(f"{parameters}: {error.read().decode()}") from None
        assert isinstance(data, dict)
        return data


@contextmanager
def started(directory: Path, targets: Path, rules: Path) -> Iterator[Prometheus]:
    """Run a Prometheus that asks the targets of a discovery file every two seconds.

    Args:
        directory: Where it keeps its config, its data and its log.
        targets: File with targets, in the format of file_sd_configs.
        rules: File with alert rules.
    """
    (port,) = free_ports(1)
    config = {
        "global": {"scrape_interval": "2s", "scrape_timeout": "2s", "evaluation_interval": "2s"},
        "rule_files": [str(rules)],
        "scrape_configs": [{"job_name": "ray", "file_sd_configs": [{"files": [str(targets)], "refresh_interval": "1s"}]}],
    }
    (directory / "prometheus.yaml").write_text(yaml.safe_dump(config))
    words = [f"--config.file={directory / 'prometheus.yaml'}", f"--storage.tsdb.path={directory / 'data'}"]
    words += [f"--web.listen-address=127.0.0.1:{port}"]
    with (directory / "prometheus.log").open("w") as log:
        process = subprocess.Popen(["prometheus", *words], cwd=directory, stdout=log, stderr=log)
    server = Prometheus(f"http://127.0.0.1:{port}")
    try:
        deadline = time.monotonic() + _PATIENCE_S
        while True:
            with contextlib.suppress(OSError), urllib.request.urlopen(f"{server.url}/-/ready", timeout=5):
                break
            assert process.poll() is None and time.monotonic() < deadline, (directory / "prometheus.log").read_text()
            time.sleep(0.2)
        yield server
    finally:
        process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(10)
        process.kill()
        process.wait()
