"""Writer of a run's record `run.json`."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from render.errors import UserError
from render.job.run_home import LOG, RunHome
from render.job.run_record import RECORD, RecordReading, read_run
from render.storage.local import write_durably
from render.system.logs import opening

#: Packages whose versions are recorded.
_VERSIONED_PACKAGES = ("jax", "jaxlib", "flax", "numpy", "scipy", "pillow", "pyvips", "hydra-core")


class RunRecorder:
    """The facts of a run's record in memory, and their way into the run's home."""

    def __init__(self, home: RunHome) -> None:
        self._home = home
        #: Facts of the record; empty before `start` or `reopen`.
        self.record: dict[str, Any] = {}

    def read(self) -> RecordReading:
        """Return the stored record, as far as it can be read."""
        return read_run(self._home.place)

    def current(self) -> Mapping[str, Any]:
        """Return the facts in memory, or else those that are stored."""
        return self.record or self.read().record

    def start(self, facts: Mapping[str, Any]) -> None:
        """Begin the record with times, versions and the facts, or continue a stored one with them."""
        self.record = {**opening(self.read().record, _VERSIONED_PACKAGES), **facts}
        self.save()

    def reopen(self, *, repair: bool) -> None:
        """Continue the record of a finished run.

        With `repair`, a lost one is written again from its backup.
        """
        reading = self.read()
        self.record = dict(reading.record)
        if reading.is_backup and repair:
            self.save()

    def save(self, **facts: Any) -> None:
        """Add facts and store the record as a whole, with the log.

        Does nothing before `start` or `reopen`.
        """
        if not self.record:
            return
        self.record |= facts
        path = self._home.path / RECORD
        try:
            write_durably(path, (json.dumps(self.record, indent=1) + "\n").encode())
        except OSError as error:
            raise UserError(f"{path} cannot be written ({error.strerror}): free some space") from None
        self._home.store(RECORD, LOG)

    def save_failure(self, **facts: Any) -> None:
        """Add facts about how the run ended, unless it was finished before it failed."""
        if self.record.get("status") != "finished":
            self.save(**facts)
