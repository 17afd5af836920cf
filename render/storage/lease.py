"""Lease on a URL for one process at a time.

It is an object that its holder refreshes, and free for others once it is stale.
"""

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
from render.storage.storage import Precondition, Version
from render.system import interrupts

log = logging.getLogger(__name__)

#: Name of the lease's object.
LEASE = ".lease"
#: Seconds after which a lease without refresh may be taken, and seconds between two refreshes.
STALE_S, _REFRESH_EVERY_S = 90.0, 20.0
#: Seconds in which a holder that lost its connection tries to confirm the lease, and seconds between two tries.
_MAX_CONFIRM_S, _CONFIRM_EVERY_S = 180.0, 2.0
#: Seconds between two polls of a lease whose holder may be gone.
_POLL_EVERY_S = 2.0
#: Name prefix of objects that are written to read the clock of the store.
_CLOCK = ".clock"


class Lease:
    """Exclusive right to write at a URL, from `take` to `release`.

    A thread refreshes it.
    """

    def __init__(self, storage: ObjectStorage, holder: str, key: str) -> None:
        """Create a lease.

        Messages say that its URL belongs to `holder`, and name its config key `key`.
        """
        self._storage, self._holder, self._key = storage, holder, key
        self._token = secrets.token_hex(8)
        self._version: Version | None = None
        #: Time of the last refresh, by `time.monotonic`.
        self._refreshed_at = 0.0
        self._is_lost = False
        self._refresh_lock = threading.Lock()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._refresh_regularly, name="lease", daemon=True)

    def take(self) -> None:
        """Take the lease.

        Raises:
            UserError: Another process holds it, or the store refuses.
        """
        try:
            self._version = self._storage.write(LEASE, self._content(), self._replaceable_version())
        except Overtaken:
            raise self._refusal() from None
        self._refreshed_at = time.monotonic()
        self._thread.start()

    def release(self) -> None:
        """Stop the refreshes and remove the lease."""
        self._ended.set()
        if self._thread.is_alive():
            self._thread.join()
        # If the store does not answer, the lease becomes stale by itself.
        with suppress(StorageError, FileNotFoundError):
            if not self._is_lost and _parse_holder(self._storage.load(LEASE)[0]).get("token") == self._token:
                self._storage.remove(LEASE)

    def check(self) -> None:
        """Raise `Overtaken` if the lease is known to be lost. Sends no request to the store."""
        if self._is_lost:
            raise Overtaken(
                f"{self._storage.place} was out of reach for {STALE_S:.0f} s and may be another run's: this one stops"
            )

    def confirm(self) -> None:
        """Check the lease before a write.

        Refresh it first if its refreshes have failed for `STALE_S` seconds.

        A stale lease that no other process has taken stays with its holder.

        Raises:
            Overtaken: Another process has taken the lease.
            StorageError: The store does not answer for `_MAX_CONFIRM_S` seconds.
        """
        deadline = time.monotonic() + _MAX_CONFIRM_S
        while not self._is_lost and time.monotonic() - self._refreshed_at > STALE_S:
            try:
                self._refresh()
            except StorageError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(_CONFIRM_EVERY_S)
                interrupts.check()
        self.check()

    def _replaceable_version(self) -> Version | Precondition:
        """Return the version that `take` may replace.

        Raises:
            UserError: Another process holds the lease.
        """
        try:
            content, version = self._storage.load(LEASE)
        except FileNotFoundError:
            return Precondition.ABSENT
        if _is_held(self._storage, content, version):
            raise self._refusal()
        log.info("the lease on %s is stale: its holder is gone", self._storage.place)
        return version

    def _refusal(self) -> UserError:
        return UserError(f"{self._storage.place} belongs to {self._holder}: wait for it or choose another {self._key}")

    def _content(self) -> bytes:
        # The time makes the content of each refresh different.
        return json.dumps({"token": self._token, **_identity(), "time": time.time()}).encode()

    def _refresh_regularly(self) -> None:
        while not self._ended.wait(_REFRESH_EVERY_S) and not self._is_lost:
            try:
                self._refresh()
            except StorageError as error:
                log.warning("the lease cannot be refreshed: %s", error)

    def _refresh(self) -> None:
        with self._refresh_lock:
            assert self._version is not None
            start = time.monotonic()
            try:
                self._version = self._storage.write(LEASE, self._content(), self._version)
                self._refreshed_at = start
            except (Overtaken, FileNotFoundError):
                # The object is missing if its new holder has already released it.
                self._is_lost = True


def is_held(storage: ObjectStorage, *, wait: bool = False) -> bool:
    """Return whether a process holds the lease at a URL, without changing the lease.

    A process on another machine counts as alive while its lease is fresh. With `wait`, the lease is watched until its
    holder refreshes it (True) or it becomes stale (False).
    """
    try:
        content, version = storage.load(LEASE)
    except FileNotFoundError:
        return False
    return _is_held(storage, content, version if wait else None)


def _is_held(storage: ObjectStorage, content: bytes, watched: Version | None) -> bool:
    """Return whether the holder is alive.

    On this machine its process tells, on others the age of the lease by the clock of the store.
    """
    holder, identity = _parse_holder(content), _identity()
    if identity["machine"] and holder.get("machine") == identity["machine"]:
        try:
            return bool(psutil.Process(int(holder["pid"])).create_time() == holder["started"])
        except (psutil.Error, KeyError, TypeError, ValueError, OverflowError):
            return False
    try:
        age = _lease_age_s(storage)
        if watched is None or age >= STALE_S:
            return age < STALE_S
        log.warning(
            "another machine held %s %.0f s ago: waiting for at most %.0f s to see whether it is still there",
            storage.place, age, STALE_S - age,
        )  # fmt: skip
        deadline = time.monotonic() + STALE_S - age
        while time.monotonic() < deadline:
            time.sleep(min(_POLL_EVERY_S, max(0.0, deadline - time.monotonic())))
            interrupts.check()
            if storage.load(LEASE)[1] != watched:
                return True
        return False
    except FileNotFoundError:
        return False


def _parse_holder(content: bytes) -> dict[str, Any]:
    """Return the record of the holder in the content of a lease; empty if it cannot be read."""
    try:
        holder = parse_record(content)
    except MalformedRecord:
        return {}
    return holder if isinstance(holder, dict) else {}


def _lease_age_s(storage: ObjectStorage) -> float:
    """Return the seconds since the lease was written.

    They are measured by the clock of the store, because clocks of machines differ.
    """
    clock = f"{_CLOCK}-{secrets.token_hex(4)}"
    try:
        storage.write(clock, b"")
        return (storage.written_at(clock) - storage.written_at(LEASE)).total_seconds()
    except StorageError:
        # Without permission to write, the clock of this machine has to do.
        return time.time() - storage.written_at(LEASE).timestamp()
    finally:
        with suppress(StorageError):
            storage.remove(clock)


def _identity() -> dict[str, Any]:
    """Return the identity of this process and of the machine its PID belongs to.

    `machine` is empty if it is unknown.
    """
    machine = ""
    with suppress(OSError):
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        machine = f"{boot}-{Path('/proc/self/ns/pid').stat().st_ino}"
    start_time = psutil.Process().create_time()
    return {"host": socket.gethostname(), "machine": machine, "pid": os.getpid(), "started": start_time}
