"""State of a film's directory, for `status`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from render.film.film_progress import read_film_progress
from render.film.film_state import FilmState, read_state
from render.film.rate import MAX_FRAMES
from render.job.progress import duration_text
from render.storage.opening import open_storage
from render.storage.records import FileName, fits
from render.storage.url import Place


def film_state(directory: Place, record: Mapping[str, Any]) -> FilmState | None:
    """Return how many frames of a film are finished: none before its manifest is written; None for a picture's run.

    Args:
        directory: Directory or URL of the run.
        record: Its record.
    """
    state, frames = read_state(directory), record.get("frames")
    if state is None and isinstance(record.get("film"), dict) and isinstance(frames, int) and 0 < frames <= MAX_FRAMES:
        return FilmState(str(record["digest"]), 0, frames)
    return state


def film_position(directory: Place, state: FilmState, *, live: bool) -> str:
    """Return how far a film is: as its process reports it, or else by the frames that are finished.

    Args:
        directory: Directory or URL of the film.
        state: Its manifest.
        live: True if a process is making it.
    """
    progress = read_film_progress(directory) if live else None
    if progress is None:
        return f"{state.finished} of {state.frames} frames finished"
    return progress.text + ("" if progress.left is None else f", about {duration_text(progress.left)} left")


def film_values(directory: Place, state: FilmState, *, live: bool) -> dict[str, Any]:
    """Return the same as values for programs: frames, the pace in frames a second, and the seconds that are left."""
    progress = read_film_progress(directory) if live else None
    return {
        "finished_frames": state.finished if progress is None else progress.finished,
        "frames_ahead": None if progress is None else progress.ahead,
        "frames": state.frames if progress is None else progress.frames,
        "frames_per_second": None if progress is None else progress.rate,
        "seconds_left": None if progress is None else progress.left,
    }


def film_files(directory: Place, record: Mapping[str, Any]) -> list[str]:
    """Return the name of the film's file, if the record names one that is there."""
    name = record.get("film_file")
    is_there = isinstance(name, str) and fits(name, FileName) and open_storage(directory).info(name) is not None
    return [str(name)] if is_there else []
