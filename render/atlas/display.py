"""Signs of life while an atlas is made: a bar on a terminal, a line now and then where there is none, or nothing."""

from __future__ import annotations

import sys
import time

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from render.job.progress import duration_text
from render.terminal.console import PatientConsole
from render.terminal.text import escaped

_LINE_EVERY_S = 15.0


class Tally:
    """Counts pictures; says how many of `total` are there, and how long the others will take."""

    def __init__(self, what: str, total: int, done: int, *, quiet: bool) -> None:
        """`what` names the pictures, `done` of which were there before."""
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
        """One more picture is there."""
        self._done += 1
        if self._bar is not None:
            self._bar.update(self._task, completed=self._done, description=escaped(name))
        elif self._console is not None and (time.monotonic() - self._said > _LINE_EVERY_S or self._done == self._total):
            self._said = time.monotonic()
            self.say(f"{100 * self._done / self._total:3.0f} % {self._done}/{self._total} {self._what}, {self._left()}")

    def say(self, line: str) -> None:
        """Something happened that whoever watches should know."""
        if self._console is not None:
            self._console.write_line(line)

    def close(self) -> None:
        """Leaves the terminal tidy."""
        if self._bar is not None:
            self._bar.stop()

    def _left(self) -> str:
        took = time.monotonic() - self._begun
        if self._done == self._total:
            return f"took {duration_text(took)}"
        return f"about {duration_text(took / (self._done - self._before) * (self._total - self._done))} left"
