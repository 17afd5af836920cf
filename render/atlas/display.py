"""Progress display of an atlas: a bar on a terminal, otherwise a line every 15 s, or nothing if quiet."""

from __future__ import annotations

import sys
import time

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from render.job.progress import duration_text
from render.terminal.console import PatientConsole
from render.terminal.text import escaped

_LINE_EVERY_S = 15.0


class Tally:
    """Counter of finished pictures that shows how many of `total` are done and how long the others will take."""

    def __init__(self, what: str, total: int, done: int, *, quiet: bool) -> None:
        """Start the display. `what` names the pictures in the plural; `done` of them existed before."""
        self._what = what
        self._total, self._done, self._before = total, done, done
        self._begun = self._said = time.monotonic()
        self._console = None if quiet else PatientConsole(file=sys.stderr)
        self._bar: Progress | None = None
        if self._console is not None and self._console.is_terminal:
            self._bar = Progress(
                TextColumn(what, markup=False), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TextColumn("ETA"),
                TimeRemainingColumn(elapsed_when_finished=False), TextColumn("{task.description}", markup=False),
                console=self._console, speed_estimate_period=120, transient=True,
            )  # fmt: skip
            self._task = self._bar.add_task("", total=total, completed=done)
            self._bar.start()

    def count(self, name: str) -> None:
        """Count one more finished picture, called `name`."""
        self._done += 1
        if self._bar is not None:
            self._bar.update(self._task, completed=self._done, description=escaped(name))
        elif self._console is not None and (time.monotonic() - self._said > _LINE_EVERY_S or self._done == self._total):
            self._said = time.monotonic()
            self.say(f"{100 * self._done / self._total:3.0f} % {self._done}/{self._total} {self._what}, {self._left()}")

    def say(self, line: str) -> None:
        """Print a line for the user, without disturbing the bar."""
        if self._console is not None:
            self._console.write_line(line)

    def close(self) -> None:
        """Stop the bar and restore the terminal."""
        if self._bar is not None:
            self._bar.stop()

    def _left(self) -> str:
        elapsed_s = time.monotonic() - self._begun
        if self._done == self._total:
            return f"took {duration_text(elapsed_s)}"
        return f"about {duration_text(elapsed_s / (self._done - self._before) * (self._total - self._done))} left"
