"""Start of a quiet local Ray with only the necessary services, and joining of a running cluster."""

from __future__ import annotations

import logging
import os
import signal
import socket
import threading
from contextlib import nullcontext
from types import FrameType
from typing import Any

import ray
from ray.exceptions import ActorDiedError, OutOfMemoryError, RayError

from render.errors import UserError
from render.farm.ray.quick_start import bare
from render.farm.versions import rays_mismatch
from render.system import interrupts
from render.terminal.streams import divert_native

log = logging.getLogger(__name__)

_CONNECT = 5.0
#: A cluster's head uses gRPC over HTTP/2. First bytes of a client, then size and type of the answer's first frame.
_HELLO = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes((0, 0, 0, 4, 0, 0, 0, 0, 0))
_FRAME, _SETTINGS = 9, 4


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
    except (RayError, RuntimeError, ConnectionError, ValueError, OSError) as error:
        if mismatch := rays_mismatch(error):
            raise UserError(f"farm.address={address}: {mismatch}") from None
        reason = first_line(error.__cause__ or error)
        raise UserError(
            f"farm.address={address}: cannot join a Ray cluster there ({reason}); start one with "
            "`ray start --head`, or leave farm.address out to render on this machine"
        ) from None


def knock(address: str) -> None:
    """Raise `UserError` unless a gRPC server answers, like a cluster's head. Ray itself would retry for minutes."""
    host, _, port = address.rpartition(":")
    if not host or not port.isdigit():
        raise UserError(f"farm.address={address}: must be auto or HOST:PORT, such as 10.0.0.1:6379")
    remedy = "start a cluster with `ray start --head`, or leave farm.address out to render on this machine"
    try:
        with socket.create_connection((host, int(port)), timeout=_CONNECT) as connection:
            if os.environ.get("RAY_USE_TLS", "0") != "0":
                return
            try:
                connection.sendall(_HELLO)
                answer = connection.recv(_FRAME, socket.MSG_WAITALL)
            except OSError:
                answer = b""
    except (OSError, OverflowError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise UserError(f"farm.address={address}: nothing listens there ({reason}); {remedy}") from None
    if len(answer) < _FRAME or answer[3] != _SETTINGS:
        raise UserError(f"farm.address={address}: what listens there is not the head of a Ray cluster; {remedy}")


def init_ray(**options: Any) -> None:
    """Run `ray.init` quietly and restore all signal handlers: Ray would let SIGTERM end the process at once.

    The first signal during the start is delivered afterwards: a half-started Ray can neither be used nor stopped.
    """
    if threading.current_thread() is not threading.main_thread():
        _init_quietly(**options)
        return
    handlers = {number: signal.getsignal(number) for number in interrupts.SIGNALS}
    received: list[int] = []

    def note(number: int, frame: FrameType | None) -> None:
        handler = handlers[signal.Signals(number)]
        if received and callable(handler):
            handler(number, frame)
        received.append(number)

    for signal_number, handler in handlers.items():
        if signal_number != signal.SIGTERM and callable(handler):
            signal.signal(signal_number, note)
    try:
        _init_quietly(**options)
    finally:
        for signal_to_restore, handler in handlers.items():
            signal.signal(signal_to_restore, handler)
        for number in received[:1]:
            signal.raise_signal(number)


def _init_quietly(**options: Any) -> None:
    divert_native()
    # Only a local Ray without dashboard passes this option.
    with bare() if options.get("include_dashboard") is False else nullcontext():
        ray.init(log_to_driver=False, logging_level=logging.ERROR, **options)


def large_pages() -> dict[str, str]:
    """Return the environment of a worker's process for large pages; the user's own value has priority.

    On a CPU, XLA allocates its memory again for each window. With pages of 4 kB that takes a quarter of the time.
    """
    return {"GLIBC_TUNABLES": os.environ.get("GLIBC_TUNABLES", "glibc.malloc.hugetlb=1")}


def first_line(error: BaseException) -> str:
    """Return an error's first line, without the stop at its end."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return (lines[0] if lines else type(error).__name__).rstrip(".:")


def cause_of_death(error: BaseException) -> str:
    """Return in few words why a worker died: Ray's own text is a page of guesses."""
    text = str(error)
    if "node" in text and ("has died" in text or "was terminated" in text) and "worker process has died" not in text:
        return "its node died"
    if isinstance(error, OutOfMemoryError) or "memory monitor" in text or "low on memory" in text:
        return "it was ended because its node ran out of memory"
    if "creation task" in text:
        return f"it could not start ({text.strip().splitlines()[-1].strip()})"
    if isinstance(error, ActorDiedError):
        return "its process died: it was killed, ran out of memory, or crashed"
    return first_line(error)


def _keep_rays_words(data: dict[str, Any], *_: Any, **__: Any) -> None:
    """Log the lines that Ray would print on standard output: it prints deaths at length, despite its settings."""
    for line in data.get("lines", []):
        log.info("Ray says: %s", str(line).strip())


if hasattr(ray._private.worker, "print_to_stdstream"):
    ray._private.worker.print_to_stdstream = _keep_rays_words
