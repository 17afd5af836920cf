"""What is seen of a sweep while it goes on: one live screen on a terminal, a line now and then elsewhere."""

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

from render.job.progress import duration_text
from render.job.progress_file import read_progress
from render.sweep.board import Board, Standing
from render.sweep.event_log import Event
from render.terminal.console import PatientConsole
from render.terminal.text import one_line

_LINE_EVERY_S = 15.0
#: What labels get before each point gets a bar, and is said where it is rendered; then how wide those are.
_LONGEST = 60
_STEP, _SHORT_STEP, _BAR, _PERCENT, _WORKER = 24, 17, 12, 5, 26
#: What the head takes, and the least that is kept for points under way.
_HEAD_LINES, _LEAST_LINES = 4, 3


class Screen:
    """Shows a board on standard error, and keeps it up to date. Any number of threads may tell it things."""

    def __init__(
        self, board: Board, directory: Path, *, quiet: bool = False, console: PatientConsole | None = None
    ) -> None:
        """`directory` is the sweep's."""
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
        """Takes an event to the board; what went wrong is said at once."""
        with self._lock:
            self.board.apply(event)
            if self._live is None and event.kind in ("failed", "retried") and event.point in self.board.standings:
                again = "" if event.kind == "failed" else ", is tried again"
                standing = self.board.standings[event.point]
                self.say(f"{event.kind.replace('retried', 'failed')}{again}: {failure_text(standing)}")

    def tick(self) -> None:
        """Looks how far running points are, and shows it. To be called about twice a second."""
        if self._quiet:
            return
        with self._lock:
            hear(self.board, self._directory)
            now = time.time()
            if self._live is not None:
                width, height = self._console.size
                self._live.update(picture(self.board, str(self._directory), now, width, height - 1), refresh=True)
            elif time.monotonic() - self._last >= _LINE_EVERY_S:
                self.say(line(self.board, now))

    def say(self, text: str) -> None:
        """Prints a line; above the picture where there is one."""
        if self._quiet:
            return
        with self._lock:
            self._last = time.monotonic()
            self._console.write_line(text)

    def close(self) -> None:
        """Leaves the terminal tidy: the picture goes."""
        with self._lock:
            if self._live is not None:
                self._live.stop()


def hear(board: Board, directory: Path) -> None:
    """Tells the board of a sweep in `directory` what its running points say of themselves."""
    for standing in board.running:
        progress = read_progress(directory / standing.point.directory)
        if progress is not None:
            board.heard(standing.point.number, progress)


def picture(board: Board, title: str, now: float, width: int, height: int | None = None) -> RenderableType:
    """Where a sweep stands at `now` (seconds since the epoch), for a terminal of `width` columns.

    With `height`, what does not fit into so many lines is counted instead, and of the failures the last are shown, cut to a
    line; without, all points under way are there, and no failures: `failure_lines` has them.
    """
    running = board.running
    parts: list[RenderableType] = _head(board, title, now, width)
    if height is None:
        return Group(*parts, _table(running, board, now, width)) if running else Group(*parts)
    room, failures = max(_LEAST_LINES, height - _HEAD_LINES), board.failures
    if failures:
        # A quarter for what went wrong; more where fewer points are under way than would fit.
        failures = failures[-max(1, room // 4, room - len(running) - 2) :]
        room = max(1, room - len(failures) - 1)
    shown = running if len(running) <= room else running[: room - 1]
    if shown:
        parts.append(_table(shown, board, now, width))
    if len(shown) < len(running):
        parts.append(Text(f"  and {len(running) - len(shown)} more", style="dim"))
    if failures:
        earlier = board.counts.failed - len(failures)
        parts.append(Text(f"failed ({earlier} more before)" if earlier else "failed", style="bold red"))
        parts += [Text(f"  {failure_text(one, width - 2)}", no_wrap=True, overflow="ellipsis") for one in failures]
    return Group(*parts)


def failure_lines(board: Board) -> list[str]:
    """The points that failed, with their reasons, a line each under a line that says so; none where none did."""
    failures = board.failures
    return ["failed", *(f"  {failure_text(one)}" for one in failures)] if failures else []


def _head(board: Board, title: str, now: float, width: int) -> list[RenderableType]:
    share = board.share(now)
    bar = Table.grid(padding=(0, 1))
    bar.add_row(ProgressBar(total=1.0, completed=share, width=max(10, width - 6)), f"{100 * share:3.0f} %")
    head = [Text(one_line(title), style="bold"), Text(counts_text(board)), Text(pace_text(board, now))]
    for text in head:
        text.no_wrap, text.overflow = True, "ellipsis"
    head[1].highlight_regex(r"\d+ failed", "bold red")
    return [head[0], bar, *head[1:]]


def _table(running: Sequence[Standing], board: Board, now: float, width: int) -> Table:
    """A line for each point: what it is called, where it stands, and if there is room a bar and who renders it."""
    labels = [one_line(one.point.label) + (f" (attempt {one.attempt})" if one.attempt > 1 else "") for one in running]
    wanted = 2 + min(_LONGEST, max(map(cell_len, labels), default=0))
    room = width - wanted - _STEP - _PERCENT - 6
    bars, workers = room >= _BAR + 2, room >= _BAR + _WORKER + 4
    columns = [_STEP if bars else _SHORT_STEP, *([_BAR] if bars else []), _PERCENT, *([_WORKER] if workers else [])]
    # Labels get what is left: they are cut here, in the middle, since it is mostly their ends that tell points apart.
    widest = max(8, min(wanted, width - sum(columns) - 2 * len(columns) - 2))
    table = Table.grid(padding=(0, 2, 0, 0))
    for column in (widest, *columns):
        table.add_column(no_wrap=True, overflow="ellipsis", width=column, justify="right" if column == _PERCENT else "left")
    for standing, label in zip(running, labels, strict=True):
        share = board.share_of(standing, now)
        cells: list[RenderableType] = [Text("  " + shortened(label, widest - 2)), _where(standing, now, bars)]
        if bars:
            cells.append(ProgressBar(total=1.0, completed=share, width=_BAR))
        cells.append(Text(f"{100 * share:.0f} %"))
        if workers:
            cells.append(Text(one_line(standing.worker), style="dim"))
        table.add_row(*cells)
    return table


def _where(standing: Standing, now: float, long: bool) -> Text:
    progress = standing.progress
    if progress is None:
        return Text(f"for {duration_text(max(0.0, now - standing.since))}", style="dim")
    octave, step = f"{progress.octave}/{progress.octaves}", f"step {progress.step}/{progress.steps}"
    return Text(f"octave {octave} {step}" if long else f"{octave} {step}", style="cyan")


def line(board: Board, now: float) -> str:
    """Where a sweep stands, in one line."""
    return f"{100 * board.share(now):3.0f} % {counts_text(board)}; {pace_text(board, now)}"


def counts_text(board: Board) -> str:
    """`31 of 48 done, 2 failed, 8 running, 7 queued (12 done before)`."""
    counts = board.counts
    parts = (("failed", counts.failed), ("running", counts.running), ("queued", counts.waiting))
    words = [f"{counts.done} of {counts.total} done", *(f"{count} {name}" for name, count in parts if count)]
    return ", ".join(words) + (f" ({counts.skipped} done before)" if counts.skipped else "")


def pace_text(board: Board, now: float) -> str:
    """`0.48 Mpx/s, 3 min 20 s so far, about 5 min 10 s left`; of a command that is over, how it ended."""
    rate, left, took = board.rate(now), board.left(now), duration_text(board.elapsed(now))
    pace = [f"{rate:.2f} Mpx/s"] if rate > 0 else []
    if board.status is None:
        return "not begun yet"
    if board.status != "running":
        # A sweep is said to have failed where any of its points has.
        through = board.status == "failed" and not board.counts.waiting
        return ", ".join([f"{'finished with failures' if through else board.status} after {took}", *pace])
    left_text = "time left not known yet" if left is None else f"about {duration_text(left)} left" if left else "finishing"
    return ", ".join([*pace, f"{took} so far", left_text])


def failure_text(standing: Standing, room: int | None = None) -> str:
    """A point and why it failed, in one line; where both take more than `room` columns, the point gets less than half."""
    reason = one_line(standing.reason) or "no reason was given"
    tries = f" (tried {standing.attempt} times)" if standing.attempt > 1 else ""
    label = one_line(standing.point.label)
    if room is not None:
        label = shortened(label, max(2 * room // 5, room - cell_len(f": {reason}{tries}")))
    return f"{label}: {reason}{tries}"


def shortened(text: str, width: int) -> str:
    """Text that takes at most `width` columns of a terminal: what is too much of it is left out in the middle."""
    if cell_len(text) <= width:
        return text
    head = set_cell_size(text, max(0, (width - 1) // 2)).rstrip()
    tail = text
    while tail and cell_len(head) + 1 + cell_len(tail) > width:
        tail = tail[1:]
    return f"{head}\N{HORIZONTAL ELLIPSIS}{tail}"
