"""Start of a local Ray with only the necessary services, and connection to a running cluster; both without output."""

from __future__ import annotations

import logging
import os
import signal
import socket
import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from types import FrameType
from typing import Any

import ray

from render.errors import UserError
from render.farm.ray.failures import first_line
from render.farm.ray.private_api import forget_authentication, log_worker_output
from render.farm.versions import rays_mismatch
from render.system import interrupts
from render.terminal.streams import divert_native

#: Timeout of a connection to a cluster's head, s.
_CONNECT_S = 5.0
#: A cluster's head uses gRPC over HTTP/2. First bytes of a client, then size and type of the answer's first frame.
_CLIENT_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes((0, 0, 0, 4, 0, 0, 0, 0, 0))
_FRAME_HEADER_BYTES, _SETTINGS_FRAME = 9, 4


def system_config(*, dashboard: bool) -> dict[str, Any]:
    """Return the settings of a local Ray, without unused services."""
    # Workers start on request, each with its own environment.
    # A busy machine answers late. The end of the node is noticed in `RayNode`.
    settings: dict[str, Any] = {
        "enable_worker_prestart": False,
        "prestart_worker_first_driver": False,
        "health_check_failure_threshold": 40,
        # Ray's default is 15, with which workers would hardly run on a busy machine.
        "worker_niceness": 0,
    }
    if not dashboard:
        # Reports on every call, which only the dashboard shows; a step makes many calls.
        settings |= {
            "task_events_report_interval_ms": 0,
            "enable_core_worker_task_event_to_gcs": False,
            "enable_timeline": False,
            "enable_metrics_collection": False,
            "event_stats": False,
        }
    return settings


def join(address: str) -> None:
    """Connect to a running cluster: `auto`, or HOST:PORT. Raise `UserError` if there is none."""
    try:
        init_ray(address=address)
    except Exception as error:
        # Ray may raise any exception here, even a plain Exception, as of a busy machine.
        if mismatch := rays_mismatch(error):
            raise UserError(f"farm.address={address}: {mismatch}") from None
        reason = first_line(error.__cause__ or error)
        raise UserError(
            f"farm.address={address}: cannot join a Ray cluster there ({reason}); start one with "
            "`ray start --head`, or leave farm.address out to render on this machine"
        ) from None


def knock(address: str) -> None:
    """Raise `UserError` unless a gRPC server answers, like a cluster's head.

    Ray itself would retry for minutes.
    """
    host, _, port = address.rpartition(":")
    if not host or not port.isdigit():
        raise UserError(f"farm.address={address}: must be auto or HOST:PORT, such as 10.0.0.1:6379")
    remedy = "start a cluster with `ray start --head`, or leave farm.address out to render on this machine"
    try:
        with socket.create_connection((host, int(port)), timeout=_CONNECT_S) as connection:
            if os.environ.get("RAY_USE_TLS", "0") != "0":
                return
            try:
                connection.sendall(_CLIENT_PREFACE)
                answer = connection.recv(_FRAME_HEADER_BYTES, socket.MSG_WAITALL)
            except OSError:
                answer = b""
    except (OSError, OverflowError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise UserError(f"farm.address={address}: nothing listens there ({reason}); {remedy}") from None
    if len(answer) < _FRAME_HEADER_BYTES or answer[3] != _SETTINGS_FRAME:
        raise UserError(f"farm.address={address}: what listens there is not the head of a Ray cluster; {remedy}")


def init_ray(startup: AbstractContextManager[None] | None = None, **options: Any) -> None:
    """Run `ray.init` without output, and keep the signal handlers.

    Ray's own would let SIGTERM end the process at once.

    Args:
        startup: Context in which Ray starts, such as `quick_start`.
        **options: Arguments of `ray.init`.
    """
    divert_native()
    log_worker_output()
    # An earlier Ray of this process may have had other variables.
    forget_authentication()
    with _signals_postponed(), startup or nullcontext():
        ray.init(log_to_driver=False, logging_level=logging.ERROR, **options)


@contextmanager
def _signals_postponed() -> Iterator[None]:
    """Deliver the first signal that comes inside the context at its end, and restore all handlers.

    A half-started Ray can neither be used nor stopped. Python handles signals in its main thread alone.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    handlers = {number: signal.getsignal(number) for number in interrupts.SIGNALS}
    received: list[int] = []

    def note_signal(number: int, frame: FrameType | None) -> None:
        handler = handlers[signal.Signals(number)]
        if received and callable(handler):
            handler(number, frame)
        received.append(number)

    for signal_number, handler in handlers.items():
        if signal_number != signal.SIGTERM and callable(handler):
            signal.signal(signal_number, note_signal)
    try:
        yield
    finally:
        for signal_to_restore, handler in handlers.items():
            signal.signal(signal_to_restore, handler)
        for number in received[:1]:
            signal.raise_signal(number)
