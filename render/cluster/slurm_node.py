"""One node of a Slurm job: it runs Ray, and tells the job's batch step what happens.

`render.cluster.slurm_job` starts this module on every node, as one step. They talk in lines: the job writes to standard
input, which Slurm copies to every node, and a node answers on standard output with JSON objects. When standard input ends,
the node ends Ray and removes its directory; so it also ends if the job dies.

Slurm sends SIGTERM to all processes of a step when the job is preempted. Ray would end, and with it the canvas in its
workers. Therefore Ray's processes are started with SIGTERM blocked, and the node passes the signal on as a report.
"""

from __future__ import annotations

import contextlib
import fcntl
import importlib.metadata
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from queue import SimpleQueue
from typing import Any

from render.system.version import __version__

#: Words of the job: start Ray's head, or a node of the head whose address follows.
HEAD, JOIN = "head", "join"
#: Beginning of the names of nodes' directories; a job's number follows.
DIRECTORY_PREFIX = "pareidolia-"

#: Ray gives up by itself if a node is not up after 30 s, which happens on busy machines.
_MAX_STARTS = 3
#: Word of this program that makes it Ray's own command, with fewer processes.
_RAY = "ray"
#: Line of Ray's log once the node is up.
_STARTED = "Ray runtime started"
_POLL_S = 0.2
_LOCK = "lock"
_LOG = "ray.log"
#: Lines of Ray's log that are reported if it ends.
_LOG_LINES = 12
#: Settings of Ray that the user may replace. Workers start on request, each with its own environment. With Ray's niceness
#: of 15 they would hardly run on a node that other jobs use, too.
_RAY_SETTINGS = {
    "RAY_enable_worker_prestart": "0",
    "RAY_prestart_worker_first_driver": "0",
    "RAY_worker_niceness": "0",
}
_PORT = re.compile(r"[\d.]+:\d+")


def facts() -> dict[str, str]:
    """Return the versions that must be the same on all nodes, by the names that messages use."""
    try:
        ray = importlib.metadata.version("ray")
    except importlib.metadata.PackageNotFoundError:
        ray = "none"
    return {"Python": ".".join(map(str, sys.version_info[:3])), "program": __version__, "Ray": ray}


class RayProcess:
    """Process of `ray start` on this node, with all that it starts.

    Args:
        directory: Directory of its sockets, logs and objects.
        cpus: CPUs that it lends to workers.
        events: Queue that is told `("up", None)` when Ray has started, and `("ray", exit code)` when it ends.
    """

    def __init__(self, directory: Path, cpus: int, events: SimpleQueue[tuple[str, Any]]) -> None:
        """Store the arguments; nothing is started."""
        self._directory, self._cpus, self._events = directory, cpus, events
        self._process: subprocess.Popen[bytes] | None = None

    def start(self, *options: str) -> None:
        """Start Ray with further options of `ray start`."""
        command = [
            sys.executable, "-u", "-m", "render.cluster.slurm_node", _RAY, "start", "--block", "--disable-usage-stats",
            f"--num-cpus={self._cpus}", "--dashboard-agent-listen-port=0", "--dashboard-agent-grpc-port=0",
            "--min-worker-port=0", "--max-worker-port=0", *options,
        ]  # fmt: skip
        # Ray notes the address of its cluster in this directory, otherwise in /tmp/ray.
        environment = {**_RAY_SETTINGS, **os.environ, "RAY_TMPDIR": str(self._directory)}
        # Children inherit what is blocked, and none of Ray's programs unblocks it.
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
        try:
            with (self._directory / _LOG).open("wb") as log:
                self._process = subprocess.Popen(
                    command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=environment, start_new_session=True
                )
        finally:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})
        threading.Thread(target=self._watch, args=(self._process,), daemon=True).start()

    def _watch(self, process: subprocess.Popen[bytes]) -> None:
        while process.poll() is None and _STARTED not in self._log():
            time.sleep(_POLL_S)
        if process.poll() is None:
            self._events.put(("up", None))
        self._events.put(("ray", process.wait()))

    def _log(self) -> str:
        with contextlib.suppress(OSError):
            return (self._directory / _LOG).read_text(errors="replace")
        return ""

    def log_end(self) -> str:
        """Return the last lines of Ray's log."""
        return "\n".join(self._log().splitlines()[-_LOG_LINES:])

    def end(self) -> None:
        """Kill Ray's processes: with SIGTERM blocked, they hear nothing milder."""
        if self._process is None:
            return
        import psutil

        with contextlib.suppress(psutil.NoSuchProcess):
            processes = psutil.Process(self._process.pid).children(recursive=True)
            self._process.kill()
            for process in processes:
                with contextlib.suppress(psutil.NoSuchProcess):
                    process.kill()
            psutil.wait_procs(processes, timeout=10)
        self._process.wait()


@contextlib.contextmanager
def own_directory(path: Path) -> Iterator[Path]:
    """Make a directory that only this user can enter, and remove it at the end.

    A directory of that name that a killed node of the same job has left is removed before; so are those of other jobs of
    this user whose node is gone, which their locks tell.

    Raises:
        OSError: There is something else of that name, or another node of the job runs here.
    """
    for other in path.parent.glob(f"{DIRECTORY_PREFIX}*"):
        _remove_if_left(other)
    path.mkdir(mode=0o700)
    with (path / _LOCK).open("w") as lock:
        # Held by this process only, since children inherit no files.
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        try:
            yield path
        finally:
            _remove(path)


def _remove_if_left(path: Path) -> None:
    """Remove a node's directory if it is this user's and its node has ended."""
    with contextlib.suppress(OSError):
        if path.is_symlink() or path.stat().st_uid != os.getuid():
            return
        with (path / _LOCK).open("r+") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            _remove(path)


def _remove(path: Path) -> None:
    """Remove a directory in which processes that are ending may still write."""
    for _ in range(20):
        shutil.rmtree(path, ignore_errors=True)
        if not path.exists():
            return
        time.sleep(0.25)


def run_ray(words: Sequence[str]) -> None:
    """Run Ray's command line in this process, without what only its dashboard and its autoscaler need."""
    from ray.scripts.scripts import cli

    from render.farm.ray.quick_start import quick_start

    with quick_start():
        cli.main(args=list(words), prog_name="ray")


def main(directory: str, cpus: str) -> int:
    """Run a node until standard input ends; return its exit code."""
    events: SimpleQueue[tuple[str, Any]] = SimpleQueue()
    signal.signal(signal.SIGTERM, lambda *_: events.put(("signal", "TERM")))
    # Standard error is Slurm's and the job's: Ray writes to a file.
    threading.Thread(target=_read_words, args=(events,), daemon=True).start()
    try:
        with own_directory(Path(directory)) as path:
            _report(facts=facts())
            node = RayProcess(path, int(cpus), events)
            try:
                return _serve(node, path, events)
            finally:
                node.end()
    except OSError as error:
        _report(failed=f"{directory}: {error.strerror or error}")
        return 1


def _serve(node: RayProcess, directory: Path, events: SimpleQueue[tuple[str, Any]]) -> int:
    """Do what the job says until it says no more."""
    is_head = os.environ.get("SLURM_PROCID", "0") == "0"
    options: list[str] = []
    starts, is_up = 0, False
    while True:
        kind, value = events.get()
        if kind == "end":
            return 0
        if kind == "signal":
            _report(signal=value)
        elif kind == "up":
            is_up = True
            _report(up=True)
        elif kind == "ray":
            # A node that was lost joins again. A new head would be another cluster.
            if starts >= _MAX_STARTS or (is_head and is_up):
                _report(failed=f"Ray ended with exit code {value}", log=node.log_end())
                return 1
            starts += 1
            node.end()
            node.start(*options)
        elif value == HEAD and is_head:
            address = f"{_address()}:{_free_port()}"
            host, _, port = address.partition(":")
            options = [
                "--head", f"--node-ip-address={host}", f"--port={port}", f"--temp-dir={directory}",
                "--include-dashboard=false",
            ]  # fmt: skip
            starts = 1
            node.start(*options)
            _report(address=address)
        elif value.startswith(f"{JOIN} ") and not is_head:
            options, starts = [f"--address={value.partition(' ')[2]}"], 1
            node.start(*options)


def _read_words(events: SimpleQueue[tuple[str, Any]]) -> None:
    for line in sys.stdin:
        events.put(("word", line.strip()))
    events.put(("end", None))


def _report(**report: Any) -> None:
    """Tell the job something, together with the node's name."""
    node = os.environ.get("SLURMD_NODENAME") or socket.gethostname()
    with contextlib.suppress(BrokenPipeError):
        sys.stdout.write(json.dumps({"node": node, **report}) + "\n")
        sys.stdout.flush()


def _address() -> str:
    """Return the address by which other nodes reach this one: the first IPv4 address of its network cards."""
    result = subprocess.run(["hostname", "-I"], capture_output=True, text=True, check=False)
    addresses = [word for word in result.stdout.split() if _PORT.fullmatch(f"{word}:0")]
    return addresses[0] if addresses else socket.gethostbyname(socket.gethostname())


def _free_port() -> int:
    with socket.socket() as server:
        server.bind(("", 0))
        return int(server.getsockname()[1])


if __name__ == "__main__":
    if sys.argv[1] == _RAY:
        run_ray(sys.argv[2:])
    sys.exit(main(*sys.argv[1:3]))
