"""Reasons why a job cannot use a place: another run, or files that no run wrote, are there."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict
from typing import Any

from render.config.schema import LATER_KEYS, Config, dotted
from render.errors import StorageError, UserError
from render.farm.checkpoint import Checkpoints
from render.job.run_home import LOG, RUN_FILES, RunHome
from render.job.run_record import RECORD, RecordReading
from render.storage.url import joined


def refuse_other_run(home: RunHome, record: Mapping[str, Any], config: Config, identity: Mapping[str, str | None]) -> None:
    """Raise `UserError` that says in which settings a recorded run differs from a config."""
    raise UserError(
        f"{home.place} holds another run ({_differences(record, config, identity)}): choose another output.dir, or "
        "fresh=true to replace it"
    )


def _differences(record: Mapping[str, Any], config: Config, identity: Mapping[str, str | None]) -> str:
    """Return the keys of the settings that decide the canvas and differ, as text."""
    settings = dotted(asdict(config)) | dict(identity)
    recorded_settings = LATER_KEYS | dotted(record["config"]) | record.get("identity", {})
    later_keys = {key for key in LATER_KEYS if not key.startswith("output.")}
    relevant = dotted(config.canvas_settings()).keys() | identity.keys() | later_keys
    keys = [key for key in sorted(relevant) if settings.get(key) != recorded_settings.get(key)]
    return "differs in " + ", ".join(keys) if keys else "of another version of the program"


def check_without_record(
    home: RunHome,
    reading: RecordReading,
    checkpoints: Checkpoints,
    digest: str,
    picture_names: Iterable[str],
    *,
    fresh: bool,
) -> None:
    """Raise `UserError` if a place without a readable record is not free for a run.

    Args:
        home: The place.
        reading: The attempt to read its record.
        checkpoints: The checkpoints there, which may still say which run it is.
        digest: Digest of the run that wants the place.
        picture_names: Names of the pictures that it will write.
        fresh: Whether a run that cannot be continued may be replaced.
    """
    stored_digest = _stored_digest(checkpoints)
    if stored_digest == digest or (stored_digest is not None and fresh):
        return
    if stored_digest is not None:
        raise UserError(
            f"{home.place} holds another run, whose {RECORD} is gone: choose another output.dir, or fresh=true to "
            "replace it"
        )
    existing_names = home.existing((*RUN_FILES, *picture_names))
    # A run makes the log first, once it holds its home: if it was killed, or the disk was full, there may be nothing else.
    if not existing_names or (existing_names == [LOG] and home.was_held()):
        return
    if not (reading.damage and home.was_held()):
        raise UserError(f"{home.place} holds a {existing_names[0]} that no run made: choose another output.dir")
    if not fresh:
        raise UserError(
            f"{joined(home.place, RECORD)} cannot be read ({reading.damage}), and nothing else says which run "
            "this is: fresh=true starts over, or choose another output.dir"
        )


def _stored_digest(checkpoints: Checkpoints) -> str | None:
    """Return the digest of the run of the checkpoints; None if none can be read."""
    try:
        manifest = checkpoints.read()
    except StorageError:
        raise
    except UserError:
        return None
    return manifest[0].digest if manifest else None
