"""The loss of a running cluster that a render has joined: noticed in time, told in one line, and gone on from."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from render.farm.ray.cluster_link import Reachability, find_raylet, has_ended, store_patience_s
from tests.conftest import INLINE, ROOT, rendered
from tests.support import ray_head

_JOB = (
    "image=sample:chelsea", "output.width=96", "output.height=120", "octaves.count=1", "octaves.steps=60",
    "objective.terms=[mixed0]", "tiles.size=48", "checkpoint.every=0",
)  # fmt: skip


def test_a_store_is_lost_only_once_every_attempt_of_some_time_has_failed() -> None:
    port = ray_head.free_ports(1)[0]

    def connect() -> None:
        socket.create_connection(("127.0.0.1", port), timeout=10).close()

    patient, hasty = Reachability(connect, 3600), Reachability(connect, 0.2)
    with socket.create_server(("127.0.0.1", port)):
        assert not hasty.is_lost()
    begun = time.monotonic()
    while not hasty.is_lost():
        assert time.monotonic() - begun < 60
    assert time.monotonic() - begun >= 0.2
    assert not patient.is_lost()
    with socket.create_server(("127.0.0.1", port)):
        assert not hasty.is_lost()
    assert not hasty.is_lost(), "the time begins anew"


@pytest.mark.parametrize(
    ("setting", "seconds"),
    [(None, 40), ("600", 580), ("60", 40), ("30", 40), ("", 40), ("soon", 40), ("inf", 40), ("-5", 40), ("1e9", 40)],
)
def test_a_store_whose_state_is_kept_is_waited_for_as_long_as_ray_does(setting: str | None, seconds: int) -> None:
    name = "RAY_gcs_rpc_server_reconnect_timeout_s"
    assert store_patience_s({} if setting is None else {name: setting}) == seconds


def test_the_raylet_of_a_socket_is_found_and_its_end_is_seen(tmp_path: Path) -> None:
    program = tmp_path / "raylet"
    program.symlink_to("/bin/sh")
    # A shell that waits for its input, under the name and with the words of a raylet.
    raylet = subprocess.Popen([program, "-s", "--", "--raylet_socket_name=/ray/here"], stdin=subprocess.PIPE)
    try:
        assert find_raylet("/ray/elsewhere") is None
        assert find_raylet("") is None
        process = find_raylet("/ray/here")
        assert process is not None
        assert process.pid == raylet.pid
        assert not has_ended(process)
        process.suspend()
        assert not has_ended(process)
        process.kill()
        deadline = time.monotonic() + 60
        while not has_ended(process):
            assert time.monotonic() < deadline
        raylet.communicate()
        assert has_ended(process)
    finally:
        raylet.kill()
        raylet.communicate()


def _render(head: ray_head.Head, run: Path) -> subprocess.Popen[str]:
    environment = {
        **os.environ,
        **head.environment,
        "RAY_AUTH_MODE": "token",
        "PYTHONPATH": str(ROOT),
        "RENDER_OVERRIDES": "",
    }
    return subprocess.Popen(
        [sys.executable, "-m", "render", *_JOB, f"farm.address={head.address}", "farm.workers=1", f"output.dir={run}"],
        env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


@pytest.mark.slow
def test_a_cluster_that_ends_amid_a_render_is_one_line_and_the_command_goes_on_elsewhere(tmp_path: Path) -> None:
    run = tmp_path / "run"
    with ray_head.started(cpus=1) as head:
        process = _render(head, run)
        log = run / "render.log"
        deadline = time.monotonic() + 300
        while not (log.exists() and "saved octave 1, step 2 " in log.read_text()):
            assert process.poll() is None, process.communicate()[1] + head.log
            assert time.monotonic() < deadline
            time.sleep(0.05)
        (raylet,) = [member for member in ray_head._family(0, head.directory) if member.name() == "raylet"]
        children = psutil.Process(process.pid).children(recursive=True)
        raylet.kill()
        _, errors = process.communicate(timeout=300)
    assert process.returncode == 2, errors
    (line,) = [text for text in errors.splitlines() if text.startswith("render: ")]
    assert "the Ray cluster is lost: " in line
    assert "(the same command goes on from octave 1, step " in line
    assert "Traceback" not in errors
    record = json.loads((run / "run.json").read_text())
    assert record["status"] == "failed"
    assert "the Ray cluster is lost" in record["error"]
    assert not psutil.wait_procs(children, timeout=10)[1]
    rendered(run, *_JOB, INLINE)
    assert json.loads((run / "run.json").read_text())["resumed"]
    rendered(tmp_path / "here", *_JOB, INLINE)
    assert (run / "preview.png").read_bytes() == (tmp_path / "here" / "preview.png").read_bytes()
