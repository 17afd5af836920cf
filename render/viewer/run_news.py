"""News of a run for the viewer: its progress while it goes on, and its pictures once it is finished."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from render.job.progress import duration_text
from render.job.progress_file import Progress, read_progress
from render.storage.records import FileName, fits
from render.viewer.open_part import NoSuchPart, OpenPart, opened_part

#: Age of a run's progress from which on it tells nothing any more, s: a tile of a large network may take minutes.
_MAX_PROGRESS_AGE_S = 900.0
#: Content type of pictures: browsers save them.
_PICTURE_TYPE = "application/octet-stream"


def newest_progress(directory: Path) -> Progress | None:
    """Return a run's progress with the time left from now on; None if it reports none, or has not for long."""
    progress = read_progress(directory)
    if progress is None:
        return None
    age = max(0.0, time.time() - progress.time)
    if age > _MAX_PROGRESS_AGE_S:
        return None
    return progress if progress.left is None else replace(progress, left=max(0.0, progress.left - age))


def progress_words(progress: Progress, shown: str) -> str:
    """Return octave, step and the time left in a short text, and `shown`, which says what the page shows."""
    left_text = "" if progress.left is None else f", about {duration_text(progress.left)} left"
    return f"octave {progress.octave} of {progress.octaves}, step {progress.step} of {progress.steps}{left_text}, {shown}"


def finished_pictures(directory: Path, record: Mapping[str, Any]) -> list[tuple[str, int]]:
    """Return (name, bytes) of the pictures of a finished run that are files, the first of its config first."""
    if record.get("status") != "finished":
        return []
    listed = record.get("pictures")
    names = dict.fromkeys([record.get("picture"), *(listed if isinstance(listed, dict) else ())])
    pictures = []
    for name in names:
        if not (isinstance(name, str) and fits(name, FileName)):
            continue
        with suppress(NoSuchPart), opened_part(directory / name, _PICTURE_TYPE).file as file:
            pictures.append((name, os.fstat(file.fileno()).st_size))
    return pictures


def opened_picture(directory: Path, record: Mapping[str, Any], number: int) -> OpenPart:
    """Return the picture with a number in `finished_pictures`, opened. Raise `NoSuchPart` if there is none."""
    names = [name for name, _ in finished_pictures(directory, record)]
    if number >= len(names):
        raise NoSuchPart("there is no such picture")
    return opened_part(directory / names[number], _PICTURE_TYPE, names[number])
