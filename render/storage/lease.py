"""One process at a time at a URL: an object that its holder keeps fresh, and that others may take once it is stale."""

from __future__ import annotations

import json
import logging
import os
import secrets
import socket
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil

from render.errors import Overtaken, StorageError, UserError
from render.storage.objects import ObjectStorage
from render.storage.records import MalformedRecord, parse_record
from render.storage.storage import Seen, Version
from render.system import interrupts

log = logging.getLogger(__name__)

LEASE = ".lease"
#: Seconds after which a lease that nobody has kept fresh may be taken, and between two refreshes.
STALE_S, _EVERY_S = 90.0, 20.0
#: How long a holder that was cut off tries to find out whether it still has the lease, and between two tries, s.
_CONFIRM_S, _TRY_EVERY_S = 180.0, 2.0
#: Seconds between two looks at a lease that is watched.
_WATCHED_EVERY_S = 2.0
_CLOCK = ".clock"


class Lease:
    """The right to write at a URL, held from `take` to `release`. Refreshed by a thread of its own."""

    def __init__(self, storage: ObjectStorage, holder: str, key: str) -> None:
        """`holder` says in messages what whoever has it is doing, and `key` what names the URL."""
        self._storage, self._holder, self._key = storage, holder, key
        self._token = secrets.token_hex(8)
        self._version: Version | None = None
        self._fresh = 0.0
        self._lost = False
        self._refreshing = threading.Lock()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._keep, name="lease", daemon=True)

    def take(self) -> None:
        """Raises `UserError` where another process has it, and `StorageError` where the store does not let us."""
        try:
            self._version = self._storage.write(LEASE, self._content(), self._takeable())
        except Overtaken:
            raise self._refusal() from None
        self._fresh = time.monotonic()
        self._thread.start()

    def release(self) -> None:
        """Gives it back."""
        self._ended.set()
        if self._thread.is_alive():
            self._thread.join()
        # Where the store cannot be asked it grows stale by itself.
        with suppress(StorageError, FileNotFoundError):
            if not self._lost and _holder(self._storage.load(LEASE)[0]).get("token") == self._token:
                self._storage.remove(LEASE)

    def check(self) -> None:
        """Raises `Overtaken` once it is known that another process has taken it. Asks nothing of the store."""
        if self._lost:
            raise Overtaken(
                f"{self._storage.place} was out of reach for {STALE_S:.0f} s and may be another run's: this one stops"
            )

    def confirm(self) -> None:
        """As `check`, for who is about to write: where it could not be kept fresh the store is asked whose it is.

        Nobody else need have wanted it meanwhile. Raises `StorageError` where the store does not answer for minutes.
        """
        deadline = time.monotonic() + _CONFIRM_S
        while not self._lost and time.monotonic() - self._fresh > STALE_S:
            try:
                self._refresh()
            except StorageError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(_TRY_EVERY_S)
                interrupts.check()
        self.check()

    def _takeable(self) -> Version | Seen:
        """What may be replaced; raises `UserError` where somebody holds it."""
        try:
            content, version = self._storage.load(LEASE)
        except FileNotFoundError:
            return Seen.NOTHING
        if _is_held(self._storage, content, version):
            raise self._refusal()
        log.info("the lease on %s is stale: its holder is gone", self._storage.place)
        return version

    def _refusal(self) -> UserError:
        return UserError(f"{self._storage.place} belongs to {self._holder}: wait for it or choose another {self._key}")

    def _content(self) -> bytes:
        # With the time, so that each refresh is another object.
        return json.dumps({"token": self._token, **_identity(), "time": time.time()}).encode()

    def _keep(self) -> None:
        while not self._ended.wait(_EVERY_S) and not self._lost:
            try:
                self._refresh()
            except StorageError as error:
                log.warning("the lease cannot be refreshed: %s", error)

    def _refresh(self) -> None:
        with self._refreshing:
            assert self._version is not None
            begun = time.monotonic()
            try:
                self._version = self._storage.write(LEASE, self._content(), self._version)
                self._fresh = begun
            except (Overtaken, FileNotFoundError):
                # Gone where whoever took it has finished.
                self._lost = True


def is_held(storage: ObjectStorage, *, wait: bool = False) -> bool:
    """Whether a process holds the lease at a URL, which is left as it is.

    Of one on another machine a fresh lease is all that is known: with `wait` it is watched until it is refreshed, or stale.
    """
    try:
        content, version = storage.load(LEASE)
    except FileNotFoundError:
        return False
    return _is_held(storage, content, version if wait else None)


def _is_held(storage: ObjectStorage, content: bytes, watched: Version | None) -> bool:
    """By the store's own clock, or by a look at the process where that ran on this machine."""
    holder, mine = _holder(content), _identity()
    if mine["machine"] and holder.get("machine") == mine["machine"]:
        try:
            return bool(psutil.Process(int(holder["pid"])).create_time() == holder["started"])
        except (psutil.Error, KeyError, TypeError, ValueError, OverflowError):
            return False
    try:
        age = _age(storage)
        if watched is None or age >= STALE_S:
            return age < STALE_S
        log.warning(
            "another machine held %s %.0f s ago: waiting for at most %.0f s to see whether it is still there",
            storage.place, age, STALE_S - age,
        )  # fmt: skip
        ends = time.monotonic() + STALE_S - age
        while time.monotonic() < ends:
            time.sleep(min(_WATCHED_EVERY_S, max(0.0, ends - time.monotonic())))
            interrupts.check()
            if storage.load(LEASE)[1] != watched:
                return True
        return False
    except FileNotFoundError:
        return False


def _holder(content: bytes) -> dict[str, Any]:
    """Return a lease's words on its holder; empty where they cannot be read."""
    try:
        holder = parse_record(content)
    except MalformedRecord:
        return {}
    return holder if isinstance(holder, dict) else {}


def _age(storage: ObjectStorage) -> float:
    """Seconds since the lease was written. Clocks of machines differ: both times are the store's."""
    clock = f"{_CLOCK}-{secrets.token_hex(4)}"
    try:
        storage.write(clock, b"")
        return (storage.written(clock) - storage.written(LEASE)).total_seconds()
    except StorageError:
        # Whoever may only read takes this machine's clock.
        return time.time() - storage.written(LEASE).timestamp()
    finally:
        with suppress(StorageError):
            storage.remove(clock)


def _identity() -> dict[str, Any]:
    """This process, and the machine that its number means something on: empty where that cannot be told."""
    machine = ""
    with suppress(OSError):
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        machine = f"{boot}-{Path('/proc/self/ns/pid').stat().st_ino}"
    started = psutil.Process().create_time()
    return {"host": socket.gethostname(), "machine": machine, "pid": os.getpid(), "started": started}
