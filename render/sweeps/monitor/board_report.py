"""State of a sweep as a document, for `status`."""

from __future__ import annotations

import time
from typing import Any

from render.film.film_progress import FilmPosition
from render.job.progress import duration_text
from render.job.progress_file import Progress
from render.sweeps.monitor.board import Board, PointStatus
from render.sweeps.monitor.forecast import Forecast
from render.sweeps.monitor.screen import counts_text, failure_text, pace_text
from render.terminal.document import Column, Document, Record, Table
from render.terminal.text import one_line


def _position(point: Record, unit: str) -> str:
    """Return the octave or step of a running point, and how many there are; empty before its run reports them."""
    return "" if point[unit] is None else f"{point[unit]}/{point[f'{unit}s']}"


def _frame(point: Record) -> str:
    """Return the frame in hand of a running film, and how many there are; empty before its run reports them."""
    frames = point["frames"]
    return "" if frames is None else f"{min(point['finished_frames'] + 1, frames)}/{frames}"


_LABEL_COLUMN = Column("running", lambda point: one_line(point["label"]))
_OCTAVE_COLUMNS = (
    Column("octave", lambda point: _position(point, "octave"), is_number=True),
    Column("step", lambda point: _position(point, "step"), is_number=True),
)
_FRAME_COLUMNS = (Column("frame", _frame, is_number=True),)
_PACE_COLUMNS = (
    Column("done", lambda point: f"{100 * point['share']:.0f} %", is_number=True),
    Column("since", lambda point: duration_text(point["elapsed_seconds"]), is_number=True),
    Column("attempt", lambda point: str(point["attempt"]), is_number=True),
    Column("worker", lambda point: one_line(point["worker"])),
)


def board_document(board: Board, directory: str, now: float) -> Document:
    """Return the state of a sweep at `now`, seconds since the epoch: counts, pace and running points."""
    forecast, counts = Forecast(board, now), board.counts
    document = Document("sweep-status")
    document.sentence(f"{directory}: {100 * forecast.share:.0f} %", directory=directory, share=forecast.share)
    document.sentence(
        counts_text(board), points=counts.total, done=counts.done, done_before=counts.skipped, failed=counts.failed,
        running=counts.running, queued=counts.waiting,
    )  # fmt: skip
    document.sentence(
        pace_text(board, now), state=board.status, started=_time(board.begun) if board.begun else None,
        elapsed_seconds=board.elapsed(now), seconds_left=forecast.seconds_left, megapixels_per_second=forecast.rate,
    )  # fmt: skip
    records = [_point_record(status, forecast) for status in board.running]
    document.values(running_points=records)
    if records:
        are_films = any(record["frames"] is not None for record in records)
        columns = _FRAME_COLUMNS if are_films else _OCTAVE_COLUMNS
        document.table(Table("", (_LABEL_COLUMN, *columns, *_PACE_COLUMNS), records))
    return document


def add_failures(document: Document, board: Board) -> None:
    """Add the failed points with their reasons."""
    document.values(
        failures=[
            {
                "point": status.point.number, "label": status.point.label, "directory": status.point.directory,
                "reason": status.reason, "attempts": status.attempt,
            }
            for status in board.failures
        ]
    )  # fmt: skip
    if board.failures:
        document.sentence("failed")
    for status in board.failures:
        document.sentence(failure_text(status), indent=2)


def _point_record(status: PointStatus, forecast: Forecast) -> dict[str, Any]:
    """Return the values of a running point."""
    progress = status.progress if isinstance(status.progress, Progress) else None
    film = status.progress if isinstance(status.progress, FilmPosition) else None
    return {
        "point": status.point.number, "label": status.point.label, "directory": status.point.directory,
        "worker": status.worker, "attempt": status.attempt, "share": forecast.share_of(status),
        "elapsed_seconds": max(0.0, forecast.now - status.since),
        "octave": progress and progress.octave, "octaves": progress and progress.octaves,
        "step": progress and progress.step, "steps": progress and progress.steps,
        "finished_frames": film and film.finished, "frames": film and film.frames,
    }  # fmt: skip


def _time(seconds: float) -> str:
    """Return a time since the epoch in ISO 8601, with the local time zone."""
    return time.strftime("%Y-%m-%dT%H:%M:%S%z", time.localtime(seconds))
