"""A Ray cluster of one node on loopback that takes jobs: its own ports, directory and token; nothing is left of it."""

from __future__ import annotations

import contextlib
import os
import random
import secrets
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil

ROOT = Path(__file__).parents[2]
_PATIENCE_S = 120.0


@dataclass(frozen=True)
class Head:
    """`url` of its dashboard, the file with its token, its port for nodes, and the directory where Ray keeps things."""

    url: str
    token: Path
    port: int
    directory: Path

    @property
    def log(self) -> str:
        """Return what `ray start` has printed so far: why a node has ended."""
        return (self.directory.parent / "log").read_text()

    @property
    def address(self) -> str:
        """Address by which a job joins it."""
        return f"127.0.0.1:{self.port}"

    @property
    def environment(self) -> dict[str, str]:
        """Environment with which a command is let in."""
        return {"RAY_AUTH_TOKEN_PATH": str(self.token)}


@contextmanager
def started(*, cpus: int = 2, **settings: str) -> Iterator[Head]:
    """`ray start --head` with token authentication and the dashboard on loopback; `settings` join its environment."""
    # A short name: Ray's sockets lie in it.
    directory = Path(tempfile.mkdtemp(prefix="head-", dir="/tmp"))
    token = directory / "token"
    token.write_text(secrets.token_hex(16))
    port, dashboard, client = free_ports(3)
    environment = {
        **{key: value for key, value in os.environ.items() if not key.startswith(("RAY_", "RENDER_"))},
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN_PATH": str(token),
        # Ray's default is 15, with which workers hardly run beside other tests.
        "RAY_worker_niceness": "0",
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "PYTHONPATH": str(ROOT),
        **settings,
    }
    any_port = (
        "min-worker",
        "max-worker",
        "dashboard-agent-listen",
        "dashboard-agent-grpc",
        "node-manager",
        "object-manager",
    )
    words = [f"--{name}-port=0" for name in (*any_port, "metrics-export", "runtime-env-agent")]
    words += [
        f"--port={port}",
        f"--dashboard-port={dashboard}",
        f"--ray-client-server-port={client}",
        "--dashboard-host=127.0.0.1",
    ]
    words += [
        f"--num-cpus={cpus}",
        "--object-store-memory=200000000",
        "--disable-usage-stats",
        f"--temp-dir={directory / 'r'}",
    ]
    with (directory / "log").open("w") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "ray.scripts.scripts", "start", "--head", "--block", *words],
            env=environment, cwd=directory, stdout=log, stderr=log, start_new_session=True,
        )  # fmt: skip
    head = Head(f"http://127.0.0.1:{dashboard}", token, port, directory / "r")
    try:
        _wait_for(head, process, directory / "log")
        yield head
    finally:
        family = [process, *_family(process.pid, directory)]
        process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(30)
        for member in family:
            with contextlib.suppress(psutil.NoSuchProcess):
                member.kill()
        process.wait()
        shutil.rmtree(directory, ignore_errors=True)


def _wait_for(head: Head, process: subprocess.Popen, log: Path) -> None:
    """Wait until the dashboard shows a node."""
    deadline = time.monotonic() + _PATIENCE_S
    request = urllib.request.Request(
        f"{head.url}/api/v0/nodes", headers={"Authorization": f"Bearer {head.token.read_text()}"}
    )
    while True:
        with contextlib.suppress(OSError), urllib.request.urlopen(request, timeout=10) as answer:
            if b"ALIVE" in answer.read():
                return
        assert process.poll() is None, log.read_text()
        assert time.monotonic() < deadline, log.read_text()
        time.sleep(0.3)


def _family(pid: int, directory: Path) -> list[psutil.Process]:
    """Return its children, and the processes that Ray has let go of, known by its directory."""
    processes = []
    with contextlib.suppress(psutil.NoSuchProcess):
        processes = psutil.Process(pid).children(recursive=True)
    for process in psutil.process_iter(["cmdline"]):
        if any(str(directory) in word for word in process.info["cmdline"] or ()):
            processes.append(process)
    return processes


def free_ports(count: int) -> list[int]:
    """Return ports that nothing listens at, from below those that the system gives to connections.

    A port of that range may be taken by any connection before a server that starts for seconds gets to listen at it, and
    Ray ends the whole node if one of its servers cannot.
    """
    first, last = (int(word) for word in Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split())
    candidates = [port for port in range(20000, 60000) if not first <= port <= last]
    ports: list[int] = []
    for port in random.SystemRandom().sample(candidates, len(candidates)):
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("", port))
            ports.append(port)
        if len(ports) == count:
            return ports
    raise AssertionError(f"no {count} ports are free")
