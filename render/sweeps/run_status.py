"""Status of a run as a document: from its record, newest checkpoint and `progress.json`."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from render.errors import UserError
from render.film.film_status import film_files, film_position, film_state, film_values
from render.job.progress import duration_text
from render.job.progress_file import read_progress
from render.job.recorded_touches import TOUCHES
from render.job.run_directory import stored_checkpoints
from render.job.run_record import planned_steps
from render.storage.url import Place, joined
from render.terminal.document import Document

#: Columns of the label before a fact.
_LABEL = 11
#: Keys of a touch's box.
_AREA_KEYS = ("area_left_px", "area_top_px", "area_width_px", "area_height_px")


def run_summary(directory: Place, record: Mapping[str, Any], *, gone: bool) -> str:
    """Return a line about the run in a directory: its state, and how far it is.

    `gone` is true if its process has disappeared.
    """
    state = _state(record, gone=gone)
    film = film_state(directory, record)
    if film is not None:
        where = film_position(directory, film, live=state == "running")
    else:
        where = "" if state == "finished" else _where(directory, record, live=state == "running")[0]
    return f"{directory}: {state}" + (f", {where}" if where else "")


def run_document(directory: Place, record: Mapping[str, Any], *, gone: bool) -> Document:
    """Return the status of the run in a directory, a summary first.

    `gone` is true if its process has disappeared.
    """
    state, film = _state(record, gone=gone), film_state(directory, record)
    document = Document("run-status" if film is None else "film-status")
    document.sentence(run_summary(directory, record, gone=gone), directory=str(directory), state=state)
    if film is None:
        progress = {} if state == "finished" else _where(directory, record, live=state == "running")[1]
        document.values(progress=progress or None)
    else:
        document.values(**film_values(directory, film, live=state == "running"))
    _add_dream(document, record)
    if film is None:
        _add_touches(document, record)
    start_text, resumed = _local_time(str(record.get("started", ""))), len(record.get("resumed", []))
    resumed_text = f", taken up again {resumed} time{'s'[: resumed > 1]}" if resumed else ""
    if start_text:
        _add(document, "begun", start_text + resumed_text)
    document.values(started=record.get("started"), resumed=resumed)
    seconds = record.get("seconds")
    document.values(seconds=dict(seconds) if seconds else None)
    if seconds:
        parts = ", ".join(f"{name} {_duration(value)}" for name, value in seconds.items() if name != "total")
        _add(document, "took", f"{_duration(seconds.get('total', 0.0))} ({parts})")
    error = str(record.get("error") or "none was given") if state == "failed" else None
    document.values(error=error)
    if error is not None:
        _add(document, "reason", error)
    _add_results(document, directory, record, state=state, is_film=film is not None)
    return document


def _state(record: Mapping[str, Any], *, gone: bool) -> str:
    return "broken off" if gone else str(record["status"])


def _add_results(document: Document, directory: Place, record: Mapping[str, Any], *, state: str, is_film: bool) -> None:
    """Add the files of a finished run, or how another one goes on."""
    is_finished = state == "finished"
    pictures = [str(joined(directory, name)) for name in record.get("pictures", {})] if is_finished else []
    films = [str(joined(directory, name)) for name in film_files(directory, record)] if is_finished else []
    document.values(pictures=pictures, films=films)
    for label, places in (("picture", pictures), ("film", films)):
        for place in places:
            _add(document, label, place)
    if state not in ("finished", "running"):
        position = "the next frame" if is_film else "its last checkpoint"
        _add(document, "go on", f"the command that began it goes on from {position}")


def _where(directory: Place, record: Mapping[str, Any], *, live: bool) -> tuple[str, dict[str, Any]]:
    """Return octave and step, as a live run reports them, or else of the newest checkpoint: as text and as values.

    There are no values where nothing is known.
    """
    progress = read_progress(directory) if live else None
    if progress is not None:
        text = (
            f"octave {progress.octave} of {progress.octaves}, step {progress.step} of {progress.steps}, "
            f"{100 * progress.share:.0f} %, {progress.rate:.2f} Mpx/s"
        ) + ("" if progress.left is None else f", about {duration_text(progress.left)} left")
        return text, {
            "octave": progress.octave, "octaves": progress.octaves, "step": progress.step, "steps": progress.steps,
            "share": progress.share, "megapixels_per_second": progress.rate, "seconds_left": progress.left,
            "checkpoint_time": None,
        }  # fmt: skip
    try:
        stored = stored_checkpoints(directory).read()
    except UserError as error:
        return f"its checkpoint cannot be read: {error}", {}
    if not stored or not stored[1]:
        return "no step is done yet" if live else "no checkpoint yet", {}
    newest, planned = stored[1][0], planned_steps(record)
    steps = planned[newest.octave] if newest.octave < len(planned) else newest.steps
    text = (
        f"octave {newest.octave + 1} of {len(planned)}, step {newest.steps} of {steps} "
        f"(checkpoint of {newest.saved_at('%Y-%m-%d %H:%M:%S')})"
    )
    return text, {
        "octave": newest.octave + 1, "octaves": len(planned), "step": newest.steps, "steps": steps, "share": None,
        "megapixels_per_second": None, "seconds_left": None, "checkpoint_time": newest.saved_at("%Y-%m-%dT%H:%M:%S%z"),
    }  # fmt: skip


def _local_time(text: str) -> str:
    """Return a record's time in the local time zone."""
    try:
        return datetime.fromisoformat(text).astimezone().strftime("%Y-%m-%d %H:%M:%S")
    except ValueError:
        return text


def _add_dream(document: Document, record: Mapping[str, Any]) -> None:
    """Add source, size, network and objective; none for a record without them."""
    try:
        grid, config = record["plan"]["octaves"][-1]["grid"], record["config"]
        width, height = grid["columns"]["length"], grid["rows"]["length"]
        image, model, objective = config["image"], config["model"]["name"], record["objective"]
    except (KeyError, IndexError, TypeError):
        document.values(image=None, width_px=None, height_px=None, model=None, objective=None)
        return
    document.values(image=image, width_px=width, height_px=height, model=model, objective=objective)
    _add(document, "dream", f"{image} -> {width} x {height} px, {model} {objective}")


def _add_touches(document: Document, record: Mapping[str, Any]) -> None:
    """Add the touches that the canvas has, and those that wait to be done again."""
    touches = record.get(TOUCHES)
    applied, waiting = ([], []) if touches is None else (touches["applied"], touches.get("waiting", []))
    areas = [dict(zip(_AREA_KEYS, touch["box"], strict=False)) for touch in applied]
    values = [{"number": touch["number"], "to": touch["to"], **area} for touch, area in zip(applied, areas, strict=True)]
    document.values(touches=values, waiting_touches=len(waiting))
    for touch in values:
        x, y, width, height = (touch.get(key) for key in _AREA_KEYS)
        _add(document, "touched", f"{touch['number']}: {width} x {height} px at {x},{y} (to={touch['to']})")
    if waiting:
        command = f"make touch {shlex.quote('run=' + document.data['directory'])} replay=true"
        _add(document, "touches", f"{len(waiting)} of an earlier canvas wait to be done again: {command}")


def _duration(seconds: float) -> str:
    return duration_text(seconds, tenths=True)


def _add(document: Document, label: str, text: str) -> None:
    """Add text behind a label, indented."""
    document.fact(f"  {label}", text, indent=_LABEL)
