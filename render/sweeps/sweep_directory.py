"""Directory of a sweep: its lock, its log, its events and its record `sweep.json`."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from render.errors import UserError
from render.export.picture import write_whole
from render.storage.local import refuse_links, remove_abandoned
from render.storage.locking import LOCK, lock_directory
from render.storage.url import checked_url
from render.storage.user_paths import user_path
from render.sweeps.axes import Found
from render.sweeps.board import SWEEP, read_sweep
from render.sweeps.drafting import POINTS
from render.sweeps.event_log import EVENTS, EventLog, read_events
from render.sweeps.gallery import PAGE
from render.sweeps.sheet import check_sheets
from render.system.logs import log_to, opening
from render.system.machine import nearest

_LOG, _STOP = "sweep.log", ".stop"
_OURS = (SWEEP, EVENTS, _LOG, PAGE, POINTS)
_VERSIONED = ("jax", "ray", "numpy", "hydra-core")


def sweep_path(found: Found) -> Path:
    """Return the sweep's directory, which depends on its axes but not on their values."""
    job = found.job
    if job.sweep.dir and checked_url(job.sweep.dir, "sweep.dir"):
        raise UserError(
            f"sweep.dir={job.sweep.dir}: a sweep is kept on a disk: name a path, or render its points with output.dir"
        )
    if job.sweep.dir:
        return user_path(job.sweep.dir, "sweep.dir")
    shared = [job.job().canvas_settings(), sorted(axis.key for axis in found.axes)]
    return Path("sweeps") / f"{job.name}-{hashlib.sha256(json.dumps(shared, sort_keys=True).encode()).hexdigest()[:8]}"


class SweepDirectory:
    """Directory of one sweep. It keeps all run directories of earlier commands, also those of other points."""

    def __init__(self, path: Path) -> None:
        self.path = path
        #: File that makes workers save their canvas and stop, once it exists.
        self.stop = path / _STOP
        self.record: dict[str, Any] = {}

    def check(self) -> None:
        """Raise `UserError` if the sweep would replace foreign files, or cannot write. Change nothing."""
        if self.path.exists() and not self.path.is_dir():
            raise UserError(f"sweep.dir={self.path} is a file: name a directory")
        refuse_links(self.path, *_OURS, _STOP, LOCK)
        # Events suffice to recognise a sweep whose record is lost: every command writes the record again.
        if not read_sweep(self.path) and not read_events(self.path / EVENTS):
            foreign = [name for name in _OURS if os.path.lexists(self.path / name)]
            if foreign:
                raise UserError(f"{self.path} holds a {foreign[0]} that no sweep made: choose another sweep.dir")
        check_sheets(self.path)
        parent = nearest(self.path)
        if not (parent.is_dir() and os.access(parent, os.W_OK)):
            raise UserError(f"{self.path} cannot be written to: choose another sweep.dir")

    @contextmanager
    def opened(self, facts: Mapping[str, Any]) -> Iterator[EventLog]:
        """Lock the directory for this process, attach log and events, and put `facts` into the record.

        On exit, record how the sweep ended, and release the directory.
        """
        lock = lock_directory(self.path, "a sweep that is still going", "sweep.dir")
        try:
            # Check again under the lock: another sweep may have written here since.
            self.check()
            remove_abandoned(self.path)
            self.stop.unlink(missing_ok=True)
            self._begin(facts)
            events = EventLog(self.path / EVENTS)
            try:
                with log_to(self.path / _LOG, self.save):
                    yield events
            finally:
                events.close()
                self.stop.unlink(missing_ok=True)
        finally:
            lock.release()

    def save(self, **facts: Any) -> None:
        """Add facts to `sweep.json`, replacing the file atomically."""
        self.record |= facts
        write_whole(self.path / SWEEP, (json.dumps(self.record, indent=1) + "\n").encode())

    def _begin(self, facts: Mapping[str, Any]) -> None:
        self.record = {
            **opening(read_sweep(self.path), _VERSIONED),
            "pid": os.getpid(),
            **facts,
        }
        self.save()
