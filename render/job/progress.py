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

_LINE_EVERY_S = 15.0


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


class Count:
    """Progress of a render, in operations of its kernels.

    `done` counts the finished part of the plan's `total`, earlier runs included; `worked` counts only this run's part.
    """

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self.octaves = len(plan.octaves)
        self.total = plan.flops
        self.octave: Octave = plan.octaves[0]
        self.step = self.tile = self.done = self.worked = 0
        self._pixels = 0
        self._begun = time.monotonic()

    def begin(self, octave: Octave, steps: int) -> None:
        """Count from the start of an octave, or from its step `steps` where it continues."""
        self.octave, self.step, self.tile = octave, steps, 0
        self.done = steps * octave.step_flops + sum(earlier.flops for earlier in self._plan.octaves[: octave.index])

    def add(self, tiles: int) -> None:
        """Count the gradients of `tiles` more tiles."""
        self.tile += tiles
        self.done += tiles * self.octave.tile_flops
        self.worked += tiles * self.octave.tile_flops
        self._pixels += tiles * self.octave.tile_pixels

    def finish_step(self, step: int) -> None:
        """Count a finished step."""
        self.step, self.tile = step + 1, 0

    @property
    def rate(self) -> float:
        """Window megapixels per second since the start."""
        return self._pixels / 1e6 / max(1e-9, self._elapsed)

    @property
    def share(self) -> float:
        """Share of all the work that is done, 0..1; 1 where there is no work."""
        return min(1.0, self.done / self.total) if self.total else 1.0

    @property
    def worked_share(self) -> float:
        """Share of all the work that was done since the start, 0..1."""
        return min(1.0, self.worked / self.total) if self.total else 0.0

    @property
    def left(self) -> float | None:
        """Estimated seconds left at the pace since the start; None before any work is done."""
        return self._elapsed * max(0, self.total - self.done) / self.worked if self.worked else None

    @property
    def _elapsed(self) -> float:
        return time.monotonic() - self._begun

    @property
    def text(self) -> str:
        height, width = self.octave.shape
        position = f"octave {self.octave.index + 1}/{self.octaves} {width}x{height} step {self.step}/{self.octave.steps}"
        return f"{position} tile {self.tile}/{self.octave.grid.tiles} {self.rate:.2f} Mpx/s"


class BarDisplay:
    """A bar with octave, step, tile, Mpx/s and the time left."""

    def __init__(self, plan: Plan, console: PatientConsole) -> None:
        self._count = Count(plan)
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
        self._task = self._bar.add_task(self._count.text, total=self._count.total, left="-:--:--")
        self._bar.start()

    def octave_started(self, octave: Octave, steps: int) -> None:
        self._count.begin(octave, steps)
        self._show()

    def tiles_done(self, tiles: int) -> None:
        self._count.add(tiles)
        self._show()

    def step_done(self, step: int) -> None:
        self._count.finish_step(step)
        self._show()

    def say(self, line: str) -> None:
        self._console.write_line(line)

    def close(self) -> None:
        self._bar.stop()

    def _show(self) -> None:
        left = self._count.left
        remaining = "-:--:--" if left is None else str(timedelta(seconds=round(left)))
        self._bar.update(self._task, completed=self._count.done, description=self._count.text, left=remaining)


class LineDisplay:
    """A line now and then, for logs and pipes."""

    def __init__(self, plan: Plan, console: PatientConsole) -> None:
        self._count = Count(plan)
        self._console = console
        self._last = time.monotonic()

    def octave_started(self, octave: Octave, steps: int) -> None:
        self._count.begin(octave, steps)

    def tiles_done(self, tiles: int) -> None:
        self._count.add(tiles)
        if time.monotonic() - self._last > _LINE_EVERY_S:
            self._say()

    def step_done(self, step: int) -> None:
        self._count.finish_step(step)
        if step + 1 == self._count.octave.steps:
            self._say()

    def say(self, line: str) -> None:
        self._console.write_line(line)

    def close(self) -> None:
        pass

    def _say(self) -> None:
        self._last = time.monotonic()
        count, left = self._count, self._count.left
        remainder = "" if left is None else f", about {duration_text(left)} left"
        self._console.write_line(f"{100 * count.share:3.0f} % {count.text}{remainder}")


class QuietDisplay:
    """A display that shows nothing."""

    def octave_started(self, octave: Octave, steps: int) -> None:
        pass

    def tiles_done(self, tiles: int) -> None:
        pass

    def step_done(self, step: int) -> None:
        pass

    def say(self, line: str) -> None:
        pass

    def close(self) -> None:
        pass


class Displays:
    """Several displays that receive the same events."""

    def __init__(self, *displays: Display) -> None:
        self._displays = displays

    def octave_started(self, octave: Octave, steps: int) -> None:
        for display in self._displays:
            display.octave_started(octave, steps)

    def tiles_done(self, tiles: int) -> None:
        for display in self._displays:
            display.tiles_done(tiles)

    def step_done(self, step: int) -> None:
        for display in self._displays:
            display.step_done(step)

    def say(self, line: str) -> None:
        for display in self._displays:
            display.say(line)

    def close(self) -> None:
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


def duration_text(seconds: float) -> str:
    """Return seconds as readable text: 45 s, 3 min 20 s, 2 h 5 min."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    if whole < 48 * 3600:
        return f"{whole // 3600} h {whole % 3600 // 60} min"
    return f"{whole / 86400:,.1f} days"
