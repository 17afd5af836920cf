"""Waits for servers of others end with one signal, with all that they started, or when nothing comes any more."""

from __future__ import annotations

import gc
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil
import pytest

from render.storage import downloads as fetch
from render.system import watched
from tests.conftest import ROOT, refusal


@pytest.fixture
def trickling() -> Iterator[int]:
    """The port of a server that sends a byte now and then, for as long as the test lasts."""
    ended = threading.Event()

    def serve(connection: socket.socket) -> None:
        with connection, suppress(OSError):
            connection.recv(4096)
            connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: 1000000\r\n\r\n")
            while not ended.wait(0.2):
                connection.sendall(b" ")

    def listen(listener: socket.socket) -> None:
        while not ended.is_set():
            with suppress(TimeoutError):
                threading.Thread(target=serve, args=(listener.accept()[0],), daemon=True).start()

    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(0.2)
        thread = threading.Thread(target=listen, args=(listener,))
        thread.start()
        yield listener.getsockname()[1]
        ended.set()
        thread.join()


@pytest.mark.slow
@pytest.mark.parametrize("words", [("classes", "model=googlenet"), ("render", "image=noise", "farm.executor=inline")])
def test_one_signal_ends_a_trickling_index_and_pip(words: tuple[str, ...], trickling: int, tmp_path: Path) -> None:
    environment = {
        **os.environ,
        "PYTHONPATH": str(ROOT),
        "RENDER_OVERRIDES": "",
        "XDG_CACHE_HOME": str(tmp_path / "cache"),
        "PIP_INDEX_URL": f"http://127.0.0.1:{trickling}/simple",
        "PIP_EXTRA_INDEX_URL": "",
        "PIP_FIND_LINKS": "",
        "PIP_CONFIG_FILE": os.devnull,
    }
    process = subprocess.Popen(
        [sys.executable, "-m", "render", *words], cwd=tmp_path, env=environment, stderr=subprocess.PIPE, text=True
    )
    try:
        children: list[psutil.Process] = []
        deadline = time.monotonic() + 60
        while not any("pip" in child.cmdline() for child in children) and time.monotonic() < deadline:
            time.sleep(0.1)
            with suppress(psutil.Error):
                children = psutil.Process(process.pid).children(recursive=True)
        assert children, "pip was never started"
        time.sleep(1)
        process.send_signal(signal.SIGTERM)
        _, errors = process.communicate(timeout=15)
    finally:
        process.kill()
    assert process.returncode == 130
    assert errors.splitlines()[-1] == "render: interrupted"
    assert psutil.wait_procs(children, timeout=5)[1] == []
    assert [path for path in (tmp_path / "cache").rglob("*") if path.is_file() and path.suffix != ".lock"] == []


def test_a_download_that_trickles_is_given_up(trickling: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watched, "STALL_S", 1.0)
    begun = time.monotonic()
    message = refusal(lambda: fetch.from_url(f"http://127.0.0.1:{trickling}/x", tmp_path / "x"))
    assert "under 64 KiB came in 1 s" in message
    assert time.monotonic() - begun < 10


def test_a_program_that_brings_nothing_is_ended_with_its_children(tmp_path: Path) -> None:
    script = (
        "import subprocess, time; print(subprocess.Popen(['sleep', '600']).pid, file=open('pid', 'w', 1)); time.sleep(600)"
    )
    with pytest.raises(watched.Stalled):
        watched.run([sys.executable, "-c", script], tmp_path, {}, stall_s=2.0)
    pid = int((tmp_path / "pid").read_text())
    deadline = time.monotonic() + 20
    with suppress(psutil.NoSuchProcess):
        # A signal arrives in its own time, and what nobody waits for may be a zombie until init has seen it.
        while (status := psutil.Process(pid).status()) != psutil.STATUS_ZOMBIE:
            assert time.monotonic() < deadline, status
            time.sleep(0.05)


def test_what_a_program_says_and_how_it_ends_is_told(tmp_path: Path) -> None:
    ended = watched.run([sys.executable, "-c", "import sys; sys.exit('no such thing')"], tmp_path, {})
    assert (ended.code, ended.errors.strip()) == (1, "no such thing")


def test_what_goes_wrong_in_a_thread_is_raised_here(tmp_path: Path) -> None:
    def fail(*_: object) -> None:
        raise ConnectionError("lost")

    with pytest.raises(ConnectionError, match="lost"):
        watched.write_in_thread(fail, tmp_path / "x")
    with pytest.raises(ConnectionError, match="lost"):
        watched.interruptible(fail)
    assert watched.interruptible(lambda: 3) == 3


def test_a_signal_is_heard_while_a_call_waits() -> None:
    threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGINT)).start()
    begun = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        watched.interruptible(lambda: time.sleep(30))
    assert time.monotonic() - begun < 10


class Held:
    """An object that is alive as long as somebody refers to it, such as an open file."""


@pytest.mark.parametrize(
    "call",
    [watched.interruptible, watched.in_thread, lambda work: watched.write_in_thread(lambda _stop: work(), Path("nothing"))],
)
def test_an_error_in_a_thread_keeps_nothing_alive(call: Callable[[Callable[[], None]], Any]) -> None:
    """A picture's open file is closed before the next attempt, without the garbage collector."""
    references: list[weakref.ref[Held]] = []

    def fail_with_an_object() -> None:
        held = Held()
        references.append(weakref.ref(held))

        def fail() -> None:
            raise ConnectionError(f"lost with {held}")

        with suppress(ConnectionError):
            call(fail)

    gc.disable()
    try:
        fail_with_an_object()
        deadline = time.monotonic() + 10
        # The thread itself may end a moment later.
        while references[0]() is not None and time.monotonic() < deadline:
            time.sleep(0.01)
        assert references[0]() is None
    finally:
        gc.enable()


def test_a_signal_waits_for_an_encoder_to_end() -> None:
    ended: list[bool] = []

    def encode() -> None:
        time.sleep(1.5)
        ended.append(True)

    threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGINT)).start()
    with pytest.raises(KeyboardInterrupt):
        watched.in_thread(encode)
    assert ended == [True]
