"""Status of a run as lines of text: from its record, newest checkpoint and `progress.json`."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from render.errors import UserError
from render.film.film_status import film_files, film_position, film_state
from render.job.progress import duration_text
from render.job.progress_file import read_progress
from render.job.run_directory import stored_checkpoints
from render.job.run_record import planned_steps
from render.storage.url import Place, joined


def run_lines(directory: Place, record: Mapping[str, Any], *, gone: bool) -> list[str]:
    """Return lines about the run in a directory, a summary first.

    `gone` is true if its process has disappeared.
    """
    state = "broken off" if gone else str(record["status"])
    film = film_state(directory, record)
    if film is not None:
        where = film_position(directory, film, live=state == "running")
    else:
        where = "" if state == "finished" else _where(directory, record, live=state == "running")
    lines = [f"{directory}: {state}" + (f", {where}" if where else "")]
    lines += [_line("dream", dream) for dream in _dream(record)]
    start_text, resumed = _local_time(str(record.get("started", ""))), len(record.get("resumed", []))
    resumed_text = f", taken up again {resumed} time{'s'[: resumed > 1]}" if resumed else ""
    lines.append(_line("begun", start_text + resumed_text))
    seconds = record.get("seconds")
    if seconds:
        parts = ", ".join(f"{name} {duration_text(value)}" for name, value in seconds.items() if name != "total")
        lines.append(_line("took", f"{duration_text(seconds.get('total', 0.0))} ({parts})"))
    if state == "failed":
        lines.append(_line("reason", str(record.get("error") or "none was given")))
    if state == "finished":
        lines += [_line("picture", str(joined(directory, name))) for name in record.get("pictures", {})]
        lines += [_line("film", str(joined(directory, name))) for name in film_files(directory, record)]
    elif film is not None and state != "running":
        lines.append(_line("go on", "the command that began it goes on from the next frame"))
    elif state != "running":
        lines.append(_line("go on", "the command that began it goes on from its last checkpoint"))
    return lines


def _where(directory: Place, record: Mapping[str, Any], *, live: bool) -> str:
    """Return octave and step, as a live run reports them, or else of the newest checkpoint."""
    progress = read_progress(directory) if live else None
    if progress is not None:
        return (
            f"octave {progress.octave} of {progress.octaves}, step {progress.step} of {progress.steps}, "
            f"{100 * progress.share:.0f} %, {progress.rate:.2f} Mpx/s"
        ) + ("" if progress.left is None else f", about {duration_text(progress.left)} left")
    try:
        stored = stored_checkpoints(directory).read()
    except UserError as error:
        return f"its checkpoint cannot be read: {error}"
    if not stored or not stored[1]:
        return "no step is done yet" if live else "no checkpoint yet"
    newest, planned = stored[1][0], planned_steps(record)
    steps = planned[newest.octave] if newest.octave < len(planned) else newest.steps
    saved = newest.saved_at("%Y-%m-%d %H:%M:%S")
    where = f"octave {newest.octave + 1} of {len(planned)}, step {newest.steps} of {steps}"
    return f"{where} (checkpoint of {saved})"


def _local_time(text: str) -> str:
    """Return a record's time in the local time zone."""
    try:
        return datetime.fromisoformat(text).astimezone().strftime("%Y-%m-%d %H:%M:%S")
    except ValueError:
        return text


def _dream(record: Mapping[str, Any]) -> list[str]:
    """Return a line about source, size, network and objective; none for a record without them."""
    try:
        grid = record["plan"]["octaves"][-1]["grid"]
        config = record["config"]
        return [
            f"{config['image']} -> {grid['columns']['length']} x {grid['rows']['length']} px, "
            f"{config['model']['name']} {record['objective']}"
        ]
    except (KeyError, IndexError, TypeError):
        return []


def _line(name: str, text: str) -> str:
    """Return text as an indented line behind a name."""
    return f"  {name:8} {text}"
