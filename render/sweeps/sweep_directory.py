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
from render.sweeps.axes.definition import SweepDefinition
from render.sweeps.gallery.gallery_page import GALLERY_PAGE
from render.sweeps.gallery.sheet import check_sheets
from render.sweeps.monitor.event_log import EVENTS, EventLog, read_events
from render.sweeps.monitor.sweep_record import SWEEP, read_sweep
from render.sweeps.rendering.drafting import POINTS
from render.system.logs import log_to, opening
from render.system.machine import nearest

_LOG, _STOP = "sweep.log", ".stop"
#: Names of all that a sweep writes, besides sheets and the stop file.
_OWN_NAMES = (SWEEP, EVENTS, _LOG, GALLERY_PAGE, POINTS)
#: Packages whose versions are recorded.
_RECORDED_PACKAGES = ("jax", "ray", "numpy", "hydra-core")


def sweep_path(definition: SweepDefinition) -> Path:
    """Return the sweep's directory, which depends on its axes but not on their values."""
    config = definition.config
    if config.sweep.dir and checked_url(config.sweep.dir, "sweep.dir"):
        raise UserError(
            f"sweep.dir={config.sweep.dir}: a sweep is kept on a disk: name a path, or render its points with output.dir"
        )
    if config.sweep.dir:
        return user_path(config.sweep.dir, "sweep.dir")
    shared = [config.job().canvas_settings(), sorted(axis.key for axis in definition.axes)]
    return Path("sweeps") / f"{config.name}-{hashlib.sha256(json.dumps(shared, sort_keys=True).encode()).hexdigest()[:8]}"


class SweepDirectory:
    """Directory of one sweep, with the run directories of all its commands.

    Attributes:
        path: The directory.
        stop: File that makes workers save their canvas and stop, once it exists.
        record: Content of `sweep.json`.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.stop = path / _STOP
        self.record: dict[str, Any] = {}

    def check(self) -> None:
        """Raise `UserError` if the sweep would replace foreign files, or cannot write.

        Nothing is changed.
        """
        if self.path.exists() and not self.path.is_dir():
            raise UserError(f"sweep.dir={self.path} is a file: name a directory")
        refuse_links(self.path, *_OWN_NAMES, _STOP, LOCK)
        # Events suffice to recognise a sweep whose record is lost: every command writes the record again.
        if not read_sweep(self.path) and not read_events(self.path / EVENTS):
            foreign = [name for name in _OWN_NAMES if os.path.lexists(self.path / name)]
            if foreign:
                raise UserError(f"{self.path} holds a {foreign[0]} that no sweep made: choose another sweep.dir")
        check_sheets(self.path)
        parent = nearest(self.path)
        if not (parent.is_dir() and os.access(parent, os.W_OK)):
            raise UserError(f"{self.path} cannot be written to: choose another sweep.dir")

    @contextmanager
    def opened(self, facts: Mapping[str, Any]) -> Iterator[EventLog]:
        """Lock the directory, attach log and events, and put `facts` into the record.

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
        """Write the record of a command that begins, after those that it resumes."""
        self.record = {
            **opening(read_sweep(self.path), _RECORDED_PACKAGES),
            "pid": os.getpid(),
            **facts,
        }
        self.save()
