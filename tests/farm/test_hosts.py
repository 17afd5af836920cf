"""A render as a job on three hosts that share nothing but a network and an object store, one of them cut off on the way."""

from __future__ import annotations

import io
import json
import os
import secrets
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from render.canvas.store import CanvasStore
from render.geometry.geometry import whole
from render.networks.weights import Loaded
from render.storage.opening import open_storage
from render.system.paths import cache_directory
from tests.conftest import ROOT
from tests.support import s3
from tests.support.hosts import Host, NotPermitted, hosts, until

_RAY = str(Path(sys.executable).with_name("ray"))
_DASHBOARD = "http://127.0.0.1:8265"
_JOB = (
    "image=sample:chelsea", "output.width=192", "output.height=240", "octaves.count=2", "octaves.steps=6",
    "objective.terms=[mixed1]", "tiles.size=48", "checkpoint.every=0", "farm.worker.threads=1",
)  # fmt: skip


@pytest.fixture
def three(tmp_path: Path, inception: Loaded) -> Iterator[tuple[s3.Server, list[Host]]]:
    """A head that computes nothing and two workers, which lend one CPU each; and the store that they reach."""
    environment = {
        # As a node's image has it: `python` is the one with the program.
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "PYTHONPATH": str(ROOT),
        "RENDER_OVERRIDES": "",
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN": secrets.token_hex(32),
        "RAY_USAGE_STATS_ENABLED": "0",
        # How soon the head takes a host that says nothing for lost: seconds instead of a minute.
        "RAY_health_check_period_ms": "1000",
        "RAY_health_check_timeout_ms": "3000",
        "RAY_health_check_failure_threshold": "3",
    }
    weights = cache_directory() / "weights"
    try:
        with (
            hosts(["head", "left", "right"], environment, [ROOT, Path(sys.prefix), weights]) as (here, made),
            s3.serving(tmp_path / "s3.log", here) as server,
        ):
            for host in made:
                host.environment = {**environment, **server.environment}
            head, *workers = made
            _start(head, "--head", "--port=6379", "--num-cpus=0", "--include-dashboard=true", "--dashboard-host=127.0.0.1")
            for worker in workers:
                _start(worker, f"--address={head.address}:6379", "--num-cpus=1")
            # What lies in a node's image; the rest of the cache is each host's own.
            cache = "/tmp/home/.cache/pareidolia"
            head.run("mkdir", "-p", cache)
            head.run("ln", "-s", str(weights), cache)
            yield server, made
    except NotPermitted as reason:
        pytest.skip(f"hosts cannot be simulated here: {reason}")


def _start(host: Host, *words: str) -> None:
    done = host.run(_RAY, "start", f"--node-ip-address={host.address}", "--disable-usage-stats", *words)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.slow
def test_a_job_on_three_hosts_loses_one_and_gives_the_same_bytes(
    three: tuple[s3.Server, list[Host]], tmp_path: Path
) -> None:
    server, (head, _left, right) = three
    place = f"{server.make_bucket('dreams')}/deep/cat"
    submitted = head.start(sys.executable, "-m", "render", "submit", f"cluster={_DASHBOARD}", *_JOB, f"output.dir={place}")
    store = open_storage(place)

    def record() -> dict:
        try:
            return json.loads(store.load("run.json")[0])
        except FileNotFoundError:
            return {}

    until(lambda: submitted.poll() is not None or len(record().get("octaves", [])) == 2, "the second octave", 180)
    # Whoever follows the job would have ended with it.
    followed = submitted.poll() is None
    right.cut_off()
    told = submitted.communicate(timeout=300)[0]
    assert followed and submitted.returncode == 0, told
    assert "a worker was lost" in told
    assert record()["status"] == "finished"

    local = _rendered_here(tmp_path / "local")
    # First the steps: should one differ, they tell which, and the log what happened there.
    here, there = (
        [octave["mean_gradient"] for octave in one["octaves"]]
        for one in (json.loads((local / "run.json").read_text()), record())
    )
    assert there == here, store.load("render.log")[0].decode()
    canvas, picture = _canvas(store.place), Image.open(io.BytesIO(store.load("preview.png")[0]))
    np.testing.assert_array_equal(canvas, _canvas(local))
    np.testing.assert_array_equal(np.asarray(picture), np.asarray(Image.open(local / "preview.png")))


def _rendered_here(directory: Path) -> Path:
    from render.__main__ import main

    assert main(["render", *_JOB, f"output.dir={directory}", "farm.executor=inline", "quiet=true"]) == 0
    return directory


def _canvas(place: str | Path) -> np.ndarray:
    from render.farm.checkpoint import Checkpoints

    checkpoints = Checkpoints(place / "canvas" if isinstance(place, Path) else f"{place}/canvas")
    read = checkpoints.read()
    assert read is not None
    stored = CanvasStore(checkpoints.path(read[1][0]), read[1][0].token)
    return stored.read(whole(*stored.shape))
