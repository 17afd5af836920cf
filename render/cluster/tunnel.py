"""Forwarding of a cluster's dashboard to a port of this machine, while a command needs it."""

from __future__ import annotations

import contextlib
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from render.cluster.tool_calls import last_line
from render.errors import UserError

_MAX_START_S = 60.0
_POLL_S = 0.1
_MAX_END_S = 5.0


@contextmanager
def forwarded(forward_command: Callable[[int], Sequence[str]], word: str) -> Iterator[str]:
    """Yield the local address of a cluster's dashboard; the forwarding ends with the block.

    Args:
        forward_command: Returns the command that forwards a port of loopback.
        word: The user's name for the cluster.

    Raises:
        UserError: Nothing listens there within a minute.
    """
    port = _free_port()
    with tempfile.TemporaryFile("w+") as output:
        # A separate session, so that Ctrl-C does not end it: the command may still have to talk to the cluster. Its
        # input stays open, because a remote shell would end with it.
        process = subprocess.Popen(
            [*forward_command(port)],
            stdin=subprocess.PIPE,
            stdout=output,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        try:
            deadline = time.monotonic() + _MAX_START_S
            while not _listens(port):
                if process.poll() is not None or time.monotonic() > deadline:
                    output.seek(0)
                    raise UserError(
                        f"cluster={word} cannot be reached ({last_line(output.read())}): is it up? make cluster-up"
                    )
                time.sleep(_POLL_S)
            yield f"http://127.0.0.1:{port}"
        finally:
            _end(process)


def _end(process: subprocess.Popen[str]) -> None:
    with contextlib.suppress(ProcessLookupError):
        process.terminate()
    try:
        process.communicate(timeout=_MAX_END_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.communicate()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _listens(port: int) -> bool:
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=1):
            return True
    except OSError:
        return False
