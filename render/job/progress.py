"""Progress on the terminal: a bar on a terminal, lines elsewhere, nothing when quiet."""

from __future__ import annotations

import sys
import time
from datetime import timedelta
from typing import Protocol

from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn

from render.planning.plan import Octave, Plan
from render.terminal.console import PatientConsole
from render.terminal.lines import print_lines

#: Minimum seconds between two lines about tiles.
_LINE_EVERY_S = 15.0
#: Text of an unknown time in place of hours, minutes and seconds.
_UNKNOWN_TIME = "-:--:--"


class Display(Protocol):
    """Receiver of a render's events, in order."""

    def octave_started(self, octave: Octave, steps: int) -> None:
        """Show that an octave begins, or continues after `steps` steps."""

    def tiles_done(self, tiles: int) -> None:
        """Show that the gradients of `tiles` more tiles are known."""

    def step_done(self, step: int) -> None:
        """Show that the canvas has been updated."""

    def say(self, line: str) -> None:
        """Show a line about an event that the user should know of."""

    def close(self) -> None:
        """Leave the terminal tidy."""


class WorkCount:
    """Progress of a render, in floating-point operations of its kernels.

    Attributes:
        octave: Current octave.
        octaves: Number of octaves.
        step: Finished steps of the octave.
        tile: Finished tiles of the current step.
        total_flops: Work of the whole plan.
        done_flops: Finished part of it, that of earlier runs included.
        run_flops: Part that was finished since the start of this run.
    """

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self.octave: Octave = plan.octaves[0]
        self.octaves = len(plan.octaves)
        self.step = self.tile = 0
        self.total_flops = plan.flops
        self.done_flops = self.run_flops = 0
        self._pixels = 0
        self._started_at = time.monotonic()

    def begin(self, octave: Octave, steps: int) -> None:
        """Count from the start of an octave, or from its step `steps` if it continues."""
        self.octave, self.step, self.tile = octave, steps, 0
        earlier_flops = sum(earlier.flops for earlier in self._plan.octaves[: octave.index])
        self.done_flops = earlier_flops + steps * octave.step_flops

    def add(self, tiles: int) -> None:
        """Count the gradients of `tiles` more tiles."""
        self.tile += tiles
        self.done_flops += tiles * self.octave.tile_flops
        self.run_flops += tiles * self.octave.tile_flops
        self._pixels += tiles * self.octave.tile_pixels

    def finish_step(self, step: int) -> None:
        """Count a finished step, which is counted from 0."""
        self.step, self.tile = step + 1, 0

    @property
    def rate(self) -> float:
        """Window megapixels per second since the start of this run."""
        return self._pixels / 1e6 / max(1e-9, self._elapsed_s)

    @property
    def done_share(self) -> float:
        """Share of all the work that is done, 0..1; 1 if there is no work."""
        return min(1.0, self.done_flops / self.total_flops) if self.total_flops else 1.0

    @property
    def run_share(self) -> float:
        """Share of all the work that was done since the start of this run, 0..1."""
        return min(1.0, self.run_flops / self.total_flops) if self.total_flops else 0.0

    @property
    def seconds_left(self) -> float | None:
        """Estimated seconds left at the pace of this run; None before any work is done."""
        left_flops = max(0, self.total_flops - self.done_flops)
        return self._elapsed_s * left_flops / self.run_flops if self.run_flops else None

    @property
    def _elapsed_s(self) -> float:
        return time.monotonic() - self._started_at

    @property
    def text(self) -> str:
        """Octave, its size, step, tile and rate, for a person."""
        height, width = self.octave.shape
        position = f"octave {self.octave.index + 1}/{self.octaves} {width}x{height} step {self.step}/{self.octave.steps}"
        return f"{position} tile {self.tile}/{self.octave.grid.tiles} {self.rate:.2f} Mpx/s"


class BarDisplay:
    """A bar with octave, step, tile, Mpx/s and the time left."""

    def __init__(self, plan: Plan, console: PatientConsole) -> None:
        self._count = WorkCount(plan)
        self._console = console
        self._bar = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            TaskProgressColumn(),
            TimeElapsedColumn(),
            TextColumn("ETA {task.fields[left]}"),
            console=console,
            transient=True,
        )
        self._task = self._bar.add_task(self._count.text, total=self._count.total_flops, left=_UNKNOWN_TIME)
        self._bar.start()

    def octave_started(self, octave: Octave, steps: int) -> None:
        """Move the bar to the start of an octave, or to where it continues."""
        self._count.begin(octave, steps)
        self._show()

    def tiles_done(self, tiles: int) -> None:
        """Move the bar by the work of `tiles` tiles."""
        self._count.add(tiles)
        self._show()

    def step_done(self, step: int) -> None:
        """Show the number of finished steps."""
        self._count.finish_step(step)
        self._show()

    def say(self, line: str) -> None:
        """Write a line above the bar."""
        self._console.write_line(line)

    def close(self) -> None:
        """Remove the bar."""
        self._bar.stop()

    def _show(self) -> None:
        """Draw the current count."""
        left = self._count.seconds_left
        remaining = _UNKNOWN_TIME if left is None else str(timedelta(seconds=round(left)))
        self._bar.update(self._task, completed=self._count.done_flops, description=self._count.text, left=remaining)


class LineDisplay:
    """A line now and then, for logs and pipes."""

    def __init__(self, plan: Plan, console: PatientConsole) -> None:
        self._count = WorkCount(plan)
        self._console = console
        self._last_line_at = time.monotonic()

    def octave_started(self, octave: Octave, steps: int) -> None:
        """Count from the start of an octave, or from where it continues."""
        self._count.begin(octave, steps)

    def tiles_done(self, tiles: int) -> None:
        """Write a line if the last one is `_LINE_EVERY_S` seconds old."""
        self._count.add(tiles)
        if time.monotonic() - self._last_line_at > _LINE_EVERY_S:
            self._write_line()

    def step_done(self, step: int) -> None:
        """Write a line if the step is the octave's last."""
        self._count.finish_step(step)
        if step + 1 == self._count.octave.steps:
            self._write_line()

    def say(self, line: str) -> None:
        """Write a line."""
        self._console.write_line(line)

    def close(self) -> None:
        """Do nothing: all lines are complete."""

    def _write_line(self) -> None:
        """Write the current count as a line."""
        self._last_line_at = time.monotonic()
        count, left = self._count, self._count.seconds_left
        remainder = "" if left is None else f", about {duration_text(left)} left"
        self._console.write_line(f"{100 * count.done_share:3.0f} % {count.text}{remainder}")


class QuietDisplay:
    """A display that shows nothing."""

    def octave_started(self, octave: Octave, steps: int) -> None:
        """Show nothing."""

    def tiles_done(self, tiles: int) -> None:
        """Show nothing."""

    def step_done(self, step: int) -> None:
        """Show nothing."""

    def say(self, line: str) -> None:
        """Show nothing."""

    def close(self) -> None:
        """Show nothing."""


class Displays:
    """Several displays that receive the same events."""

    def __init__(self, *displays: Display) -> None:
        self._displays = displays

    def octave_started(self, octave: Octave, steps: int) -> None:
        """Pass the event on."""
        for display in self._displays:
            display.octave_started(octave, steps)

    def tiles_done(self, tiles: int) -> None:
        """Pass the event on."""
        for display in self._displays:
            display.tiles_done(tiles)

    def step_done(self, step: int) -> None:
        """Pass the event on."""
        for display in self._displays:
            display.step_done(step)

    def say(self, line: str) -> None:
        """Pass the line on."""
        for display in self._displays:
            display.say(line)

    def close(self) -> None:
        """Close all displays."""
        for display in self._displays:
            display.close()


def say(*lines: str, quiet: bool) -> None:
    """Print lines on standard output unless the job is quiet."""
    if not quiet:
        print_lines(*lines)


def make_display(plan: Plan, *, quiet: bool) -> Display:
    """Return the display that suits standard error."""
    if quiet:
        return QuietDisplay()
    console = PatientConsole(file=sys.stderr)
    return BarDisplay(plan, console) if console.is_terminal else LineDisplay(plan, console)


def duration_text(seconds: float, *, tenths: bool = False) -> str:
    """Return seconds as readable text: 45 s, 3 min 20 s, 2 h 5 min; with `tenths`, 1.2 s below ten seconds."""
    if tenths and seconds < 9.95:
        return f"{seconds:.1f} s" if seconds >= 0.05 else "< 0.1 s" if seconds > 0 else "0 s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    if whole < 48 * 3600:
        return f"{whole // 3600} h {whole % 3600 // 60} min"
    return f"{whole / 86400:,.1f} days"
