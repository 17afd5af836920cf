"""Progress display of a sweep: a live screen on a terminal, a line at intervals elsewhere."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path

from rich.cells import cell_len, set_cell_size
from rich.console import Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from render.film.film_progress import FilmPosition, read_film_progress
from render.job.progress import duration_text
from render.job.progress_file import read_progress
from render.sweeps.monitor.board import Board, PointStatus
from render.sweeps.monitor.event_log import Event
from render.sweeps.monitor.forecast import Forecast
from render.terminal.console import PatientConsole
from render.terminal.text import one_line

_LINE_EVERY_S = 15.0
#: Columns of labels that take precedence over bars and workers.
_LABEL_COLUMNS = 60
#: Columns of the other fields.
_STEP, _SHORT_STEP, _BAR, _PERCENT, _WORKER = 24, 17, 12, 5, 26
#: Lines of the head, and the least number of lines for running points.
_HEAD_LINES, _MIN_POINT_LINES = 4, 3


class Screen:
    """Display of a board on standard error. Any number of threads may call it."""

    def __init__(
        self, board: Board, directory: Path, *, quiet: bool = False, console: PatientConsole | None = None
    ) -> None:
        """Start a live display if the console is a terminal; `directory` is the sweep's."""
        self.board = board
        self._directory = directory
        self._console = PatientConsole(file=sys.stderr) if console is None else console
        self._quiet = quiet
        self._lock = threading.RLock()
        self._last = time.monotonic()
        self._live: Live | None = None
        if self._console.is_terminal and not self._console.is_dumb_terminal and not quiet:
            self._live = Live(console=self._console, auto_refresh=False, transient=True)
            self._live.start()

    def update(self, event: Event) -> None:
        """Apply an event to the board; without a live display, print failures at once."""
        with self._lock:
            self.board.apply(event)
            if self._live is None and event.kind in ("failed", "retried") and event.point in self.board.point_statuses:
                retry_text = "" if event.kind == "failed" else ", is tried again"
                status = self.board.point_statuses[event.point]
                self.say(f"{event.kind.replace('retried', 'failed')}{retry_text}: {failure_text(status)}")

    def tick(self) -> None:
        """Read the progress of running points and show it. Call it about twice a second."""
        if self._quiet:
            return
        with self._lock:
            update_progress(self.board, self._directory)
            now = time.time()
            if self._live is not None:
                width, height = self._console.size
                self._live.update(board_view(self.board, str(self._directory), now, width, height - 1), refresh=True)
            elif time.monotonic() - self._last >= _LINE_EVERY_S:
                self.say(board_line(self.board, now))

    def say(self, text: str) -> None:
        """Print a line; above the live display if there is one."""
        if self._quiet:
            return
        with self._lock:
            self._last = time.monotonic()
            self._console.write_line(text)

    def close(self) -> None:
        """Remove the live display."""
        with self._lock:
            if self._live is not None:
                self._live.stop()


def update_progress(board: Board, directory: Path) -> None:
    """Read the progress of the running points of the sweep in `directory` into its board."""
    for status in board.running:
        run_directory = directory / status.point.directory
        progress = read_progress(run_directory) or read_film_progress(run_directory)
        if progress is not None:
            board.set_progress(status.point.number, progress)


def board_view(board: Board, title: str, now: float, width: int, height: int) -> RenderableType:
    """Return the state of a sweep at `now` for a terminal of `width` columns and `height` lines.

    Points that do not fit are counted instead, and the last failures are shown, each cut to a line.
    """
    running = board.running
    parts: list[RenderableType] = _head(board, title, now, width)
    line_count, failures = max(_MIN_POINT_LINES, height - _HEAD_LINES), board.failures
    if failures:
        # Failures get a quarter of the lines, or more if running points leave lines free.
        failures = failures[-max(1, line_count // 4, line_count - len(running) - 2) :]
        line_count = max(1, line_count - len(failures) - 1)
    listed_points = running if len(running) <= line_count else running[: line_count - 1]
    if listed_points:
        parts.append(_table(listed_points, board, now, width))
    if len(listed_points) < len(running):
        parts.append(Text(f"  and {len(running) - len(listed_points)} more", style="dim"))
    if failures:
        omitted_failures = board.counts.failed - len(failures)
        parts.append(Text(f"failed ({omitted_failures} more before)" if omitted_failures else "failed", style="bold red"))
        parts += [Text(f"  {failure_text(failure, width - 2)}", no_wrap=True, overflow="ellipsis") for failure in failures]
    return Group(*parts)


def _head(board: Board, title: str, now: float, width: int) -> list[RenderableType]:
    """Return the title, a bar for the whole sweep, the counts and the pace."""
    share = Forecast(board, now).share
    bar = Table.grid(padding=(0, 1))
    bar.add_row(ProgressBar(total=1.0, completed=share, width=max(10, width - 6)), f"{100 * share:3.0f} %")
    head = [Text(one_line(title), style="bold"), Text(counts_text(board)), Text(pace_text(board, now))]
    for text in head:
        text.no_wrap, text.overflow = True, "ellipsis"
    head[1].highlight_regex(r"\d+ failed", "bold red")
    return [head[0], bar, *head[1:]]


def _table(running: Sequence[PointStatus], board: Board, now: float, width: int) -> Table:
    """Return a line for each point: label, progress, and if there is room a bar and its worker."""
    labels = [
        one_line(status.point.label) + (f" (attempt {status.attempt})" if status.attempt > 1 else "") for status in running
    ]
    label_columns = 2 + min(_LABEL_COLUMNS, max(map(cell_len, labels), default=0))
    free_columns = width - label_columns - _STEP - _PERCENT - 6
    has_bars, has_workers = free_columns >= _BAR + 2, free_columns >= _BAR + _WORKER + 4
    columns = [
        _STEP if has_bars else _SHORT_STEP,
        *([_BAR] if has_bars else []),
        _PERCENT,
        *([_WORKER] if has_workers else []),
    ]
    # Labels get the remaining width. They are cut in the middle, since mostly their ends distinguish points.
    label_width = max(8, min(label_columns, width - sum(columns) - 2 * len(columns) - 2))
    table = Table.grid(padding=(0, 2, 0, 0))
    for column in (label_width, *columns):
        table.add_column(no_wrap=True, overflow="ellipsis", width=column, justify="right" if column == _PERCENT else "left")
    forecast = Forecast(board, now)
    for status, label in zip(running, labels, strict=True):
        share = forecast.share_of(status)
        cells: list[RenderableType] = [
            Text("  " + shortened(label, label_width - 2)),
            _position(status, now, is_long=has_bars),
        ]
        if has_bars:
            cells.append(ProgressBar(total=1.0, completed=share, width=_BAR))
        cells.append(Text(f"{100 * share:.0f} %"))
        if has_workers:
            cells.append(Text(one_line(status.worker), style="dim"))
        table.add_row(*cells)
    return table


def _position(status: PointStatus, now: float, *, is_long: bool) -> Text:
    """Return the octave and step of a running point, or the frame of a film, or for how long it has been running."""
    progress = status.progress
    if progress is None:
        return Text(f"for {duration_text(max(0.0, now - status.since))}", style="dim")
    if isinstance(progress, FilmPosition):
        return Text(f"frame {min(progress.finished + 1, progress.frames)}/{progress.frames}", style="cyan")
    octave, step = f"{progress.octave}/{progress.octaves}", f"step {progress.step}/{progress.steps}"
    return Text(f"octave {octave} {step}" if is_long else f"{octave} {step}", style="cyan")


def board_line(board: Board, now: float) -> str:
    """Return the state of a sweep in one line."""
    return f"{100 * Forecast(board, now).share:3.0f} % {counts_text(board)}; {pace_text(board, now)}"


def counts_text(board: Board) -> str:
    """Return such as `31 of 48 done, 2 failed, 8 running, 7 queued (12 done before)`."""
    counts = board.counts
    parts = (("failed", counts.failed), ("running", counts.running), ("queued", counts.waiting))
    words = [f"{counts.done} of {counts.total} done", *(f"{count} {name}" for name, count in parts if count)]
    return ", ".join(words) + (f" ({counts.skipped} done before)" if counts.skipped else "")


def pace_text(board: Board, now: float) -> str:
    """Return the rate and the time left, or how a command ended.

    Such as `0.48 Mpx/s, 3 min 20 s so far, about 5 min 10 s left`.
    """
    forecast, elapsed = Forecast(board, now), duration_text(board.elapsed(now))
    pace = [f"{forecast.rate:.2f} Mpx/s"] if forecast.rate > 0 else []
    if board.status is None:
        return "not begun yet"
    if board.status != "running":
        # The status is "failed" if any point has failed, even if all were tried.
        all_tried = board.status == "failed" and not board.counts.waiting
        return ", ".join([f"{'finished with failures' if all_tried else board.status} after {elapsed}", *pace])
    left = forecast.seconds_left
    left_text = "time left not known yet" if left is None else f"about {duration_text(left)} left" if left else "finishing"
    return ", ".join([*pace, f"{elapsed} so far", left_text])


def failure_text(status: PointStatus, room: int | None = None) -> str:
    """Return a failed point and its reason in one line.

    Shorten its label if both take more than `room` columns.
    """
    reason = one_line(status.reason) or "no reason was given"
    tries = f" (tried {status.attempt} times)" if status.attempt > 1 else ""
    label = one_line(status.point.label)
    if room is not None:
        label = shortened(label, max(2 * room // 5, room - cell_len(f": {reason}{tries}")))
    return f"{label}: {reason}{tries}"


def shortened(text: str, width: int) -> str:
    """Return text shortened in the middle to at most `width` columns of a terminal."""
    if cell_len(text) <= width:
        return text
    head = set_cell_size(text, max(0, (width - 1) // 2)).rstrip()
    tail = text
    while tail and cell_len(head) + 1 + cell_len(tail) > width:
        tail = tail[1:]
    return f"{head}\N{HORIZONTAL ELLIPSIS}{tail}"
