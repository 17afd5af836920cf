"""A process that has imported the program, and forks for each command: `python -m render` without two seconds of imports.

Each command is a process of its own all the same: with the directory, environment, pipes, signals, exit code and end of a
Python that has been started for it. JAX has no device and no thread yet when the process forks.

Run as `python -m tests.support.preloaded DESCRIPTOR`, it is that process; `Preloaded` starts it and sends it commands.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import json
import math
import os
import runpy
import select
import selectors
import signal
import socket
import subprocess
import sys
import threading
import time
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import psutil

from render.system.accelerators import has_nvidia_gpu
from render.system.large_pages import large_pages

_ROOT = Path(__file__).parents[2]
#: Modules that most commands import, and those that take longest. Ray is not among them, which starts threads.
_MODULES = (
    "render.commands.render", "render.job.job", "render.farm.worker.process", "render.export.export", "zarr", "pyvips",
    "PIL.Image", "flax.nnx",
)  # fmt: skip
#: Beginnings of the names of variables that Python or a library reads when it is started or imported.
_READ_AT_START = (
    "PYTHON", "JAX", "XLA", "TF_", "OPENBLAS", "OMP_", "LD_", "LC_", "LANG", "MALLOC_", "GLIBC_", "TMP", "VIPS", "CUDA",
)  # fmt: skip


class Preloaded:
    """Starts commands in forks of one process, which begins with the first of them."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        """Start nothing yet. `environment` is that of the process which forks."""
        self._environment = dict(environment)
        self._server: subprocess.Popen[bytes] | None = None
        self._requests: socket.socket | None = None

    @property
    def processes(self) -> list[psutil.Process]:
        """The commands that run now, with the processes that wait for their ends."""
        assert self._server is not None, "a command has been run"
        children = psutil.Process(self._server.pid).children(recursive=True)
        return [child for child in children if child.status() != psutil.STATUS_ZOMBIE]

    def suits(self, environment: Mapping[str, str]) -> bool:
        """Return whether a command in this environment may find everything imported already.

        Where there is a GPU, it may not: a command says before it imports JAX which platform that is to use.
        """
        return not has_nvidia_gpu() and _read_at_start(environment) == _read_at_start(self._environment)

    def start(
        self, words: Sequence[str], directory: Path, environment: Mapping[str, str], *, new_session: bool = False
    ) -> Running:
        """Start `python -m render` with these words, in a directory; in a session of its own if so asked."""
        control, control_end = socket.socketpair()
        (out, out_end), (err, err_end) = os.pipe(), os.pipe()
        socket.send_fds(self._connection(), [b"\0"], [control_end.fileno(), out_end, err_end])
        control_end.close()
        os.close(out_end)
        os.close(err_end)
        request = {
            "words": list(words), "directory": str(directory), "environment": dict(environment), "new_session": new_session,
        }  # fmt: skip
        number = b""
        # Where the process that forks has ended, there is no one to tell.
        with contextlib.suppress(ConnectionError):
            control.sendall(json.dumps(request).encode())
            control.shutdown(socket.SHUT_WR)
            number = control.recv(8, socket.MSG_WAITALL)
        running = Running(list(words), int.from_bytes(number), control, out, err)
        if not number:
            running.close()
            raise ChildProcessError(self._end().decode())
        return running

    def run(
        self, words: Sequence[str], directory: Path, environment: Mapping[str, str], timeout: float
    ) -> subprocess.CompletedProcess[str]:
        """Run `python -m render` with these words, and return what it printed. See `subprocess.run`."""
        running = self.start(words, directory, environment)
        try:
            printed = running.communicate(timeout)
        except subprocess.TimeoutExpired:
            running.kill()
            running.communicate(timeout=60)
            raise
        assert running.returncode is not None
        return subprocess.CompletedProcess(list(words), running.returncode, *printed)

    def close(self) -> None:
        """End the process that forks; what it has started goes on."""
        if self._requests is not None:
            self._end()

    def _end(self) -> bytes:
        """Have the process that forks end. Return what it has said of errors."""
        server, requests = self._server, self._requests
        assert server is not None and server.stdout is not None and server.stderr is not None, "it has been started"
        assert requests is not None, "it has been started"
        self._server = self._requests = None
        requests.close()
        server.wait(60)
        # Commands that still run, which tests have left behind, keep the pipe open.
        os.set_blocking(server.stderr.fileno(), False)
        with server.stdout, server.stderr:
            return server.stderr.read() or b""

    def _connection(self) -> socket.socket:
        """Return the connection to the process that forks. Start it if it is not there."""
        if self._requests is None:
            self._requests, end = socket.socketpair()
            command = [sys.executable, "-m", "tests.support.preloaded", str(end.fileno())]
            with end:
                # Pipes, as those of the commands will be: a stream knows from its start whether it can seek.
                self._server = subprocess.Popen(
                    command, cwd=_ROOT, env=self._environment, pass_fds=[end.fileno()],
                    stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                )  # fmt: skip
        return self._requests


class Running:
    """A command that has been started: the part of `subprocess.Popen` that tests use, with text from both pipes."""

    def __init__(self, words: list[str], pid: int, control: socket.socket, out: int, err: int) -> None:
        """Take over the connection to the process that waits for the command, and the pipes."""
        self.args, self.pid = words, pid
        self.returncode: int | None = None
        self.stdout, self.stderr = os.fdopen(out, encoding="utf-8"), os.fdopen(err, encoding="utf-8")
        #: What has come so far.
        self._received = [(self.stdout, bytearray()), (self.stderr, bytearray())]
        self._control = control
        #: Held by whoever receives the exit code: threads may wait for one command, or look at it meanwhile.
        self._receiving = threading.Lock()

    def poll(self) -> int | None:
        """Return the exit code if the command has ended; minus the number of the signal that has ended it."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.wait(0)
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        """Return the exit code once the command has ended. Raise `TimeoutExpired`."""
        begun = time.monotonic()
        while self.returncode is None:
            # A part of the time at once: another thread may receive it.
            left = math.inf if timeout is None else begun + timeout - time.monotonic()
            with self._receiving:
                if self.returncode is None and select.select([self._control], [], [], max(0, min(left, 0.1)))[0]:
                    # It comes in one piece: the few bytes are sent at once, or none.
                    self.returncode = int(self._control.recv(16))
                    self._control.close()
            if self.returncode is None and left <= 0:
                raise subprocess.TimeoutExpired(self.args, timeout or 0)
        return self.returncode

    def communicate(self, timeout: float | None = None) -> tuple[str, str]:
        """Return what comes from standard output and standard error until the command ends. Raise `TimeoutExpired`.

        It may be called again, and then returns all of it once more.
        """
        deadline = math.inf if timeout is None else time.monotonic() + timeout
        with selectors.DefaultSelector() as selector:
            for stream, received in self._received:
                if not stream.closed:
                    selector.register(stream.fileno(), selectors.EVENT_READ, received)
            while selector.get_map():
                ready = selector.select(None if timeout is None else max(0, deadline - time.monotonic()))
                if not ready:
                    raise subprocess.TimeoutExpired(self.args, timeout or 0)
                for key, _ in ready:
                    part = os.read(key.fd, 1 << 16)
                    key.data.extend(part)
                    if not part:
                        selector.unregister(key.fd)
        self.wait(None if timeout is None else max(0, deadline - time.monotonic()))
        self.close()
        out, err = (text.decode().replace("\r\n", "\n").replace("\r", "\n") for _, text in self._received)
        return out, err

    def send_signal(self, number: int) -> None:
        """Send a signal, if the command has not ended."""
        if self.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, number)

    def kill(self) -> None:
        """End the command at once."""
        self.send_signal(signal.SIGKILL)

    def close(self) -> None:
        """Close the pipes."""
        self.stdout.close()
        self.stderr.close()
        self._control.close()


def _read_at_start(environment: Mapping[str, str]) -> dict[str, str]:
    return {name: value for name, value in environment.items() if name.startswith(_READ_AT_START)}


def _fork() -> int:
    """Return 0 in a child and its number in the parent. OpenBLAS, whose threads are there by now, sees to them itself."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return os.fork()


def _serve(requests: socket.socket) -> dict[str, Any] | None:
    """Return, in a process made for it, each command that is asked for; None here when no more will come."""
    while True:
        message, descriptors, *_ = socket.recv_fds(requests, 1, 3)
        with contextlib.suppress(ChildProcessError):
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
        if not message:
            return None
        if _fork() == 0:
            requests.close()
            return _command(*descriptors)
        for descriptor in descriptors:
            os.close(descriptor)


def _command(control: int, out: int, err: int) -> dict[str, Any]:
    """Return the command that comes through a socket, in its process. Here, tell its number and then its exit code."""
    with socket.socket(fileno=control) as connection:
        request: dict[str, Any] = json.loads(b"".join(iter(lambda: connection.recv(1 << 16), b"")))
        begun, begun_end = os.pipe()
        process = _fork()
        if process:
            for descriptor in (out, err, begun_end):
                os.close(descriptor)
            # Nobody hears of the command before its session is there.
            os.read(begun, 1)
            connection.sendall(process.to_bytes(8))
            _, status = os.waitpid(process, 0)
            with contextlib.suppress(BrokenPipeError):
                connection.sendall(b"%d" % os.waitstatus_to_exitcode(status))
            os._exit(0)
    if request["new_session"]:
        os.setsid()
    for source, target in ((out, 1), (err, 2)):
        os.dup2(source, target)
        os.close(source)
    os.close(begun)
    os.close(begun_end)
    return request


def _become(request: dict[str, Any]) -> None:
    """Be the command of a request, to its end."""
    os.chdir(request["directory"])
    os.environ.clear()
    os.environ.update(request["environment"])
    # As `python -m` has it.
    sys.path[0] = request["directory"]
    sys.argv[1:] = request["words"]
    runpy.run_module("render", run_name="__main__", alter_sys=True)


# Commands of tests have large pages as users' have, but from the start: a fork cannot be started again.
os.environ.update(large_pages())
#: A command that runs, in a fork or in a Python of its own.
Process = Running | subprocess.Popen[str]
#: The environment of commands, as it is before any test.
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(_ROOT), "RENDER_OVERRIDES": ""}
#: Starts the commands of all tests.
PRELOADED = Preloaded(ENVIRONMENT)


def start_command(*words: str, cwd: Path, env: Mapping[str, str] = ENVIRONMENT, new_session: bool = False) -> Process:
    """Start `python -m render` with pipes, in a fork if it can be one."""
    if PRELOADED.suits(env):
        return PRELOADED.start(words, cwd, env, new_session=new_session)
    return subprocess.Popen(
        [sys.executable, "-m", "render", *words],
        cwd=cwd, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=new_session,
    )  # fmt: skip


if __name__ == "__main__":
    for _name in _MODULES:
        importlib.import_module(_name)
    gc.collect()
    gc.freeze()
    _request = _serve(socket.socket(fileno=int(sys.argv[1])))
    if _request is not None:
        _become(_request)
