"""Progress of an atlas for the user: a bar on a terminal, else a line every 15 s."""

from __future__ import annotations

import sys
import time

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from render.job.progress import duration_text
from render.terminal.console import PatientConsole
from render.terminal.text import escaped

_LINE_EVERY_S = 15.0


class AtlasProgress:
    """Counter of finished pictures, shown with the time that the others will take."""

    def __init__(self, noun: str, total: int, existing: int, *, quiet: bool) -> None:
        """Start the display.

        Args:
            noun: name of the pictures, in the plural.
            total: number of pictures.
            existing: number of pictures that exist already.
            quiet: show nothing.
        """
        self._noun = noun
        self._total, self._finished, self._existing = total, existing, existing
        self._start_s = self._last_line_s = time.monotonic()
        self._console = None if quiet else PatientConsole(file=sys.stderr)
        self._bar: Progress | None = None
        if self._console is not None and self._console.is_terminal:
            self._bar = Progress(
                TextColumn(noun, markup=False), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TextColumn("ETA"),
                TimeRemainingColumn(elapsed_when_finished=False), TextColumn("{task.description}", markup=False),
                console=self._console, speed_estimate_period=120, transient=True,
            )  # fmt: skip
            self._task = self._bar.add_task("", total=total, completed=existing)
            self._bar.start()

    def count(self, name: str) -> None:
        """Count one more finished picture, called `name`."""
        self._finished += 1
        if self._bar is not None:
            self._bar.update(self._task, completed=self._finished, description=escaped(name))
        elif self._console is not None and (
            time.monotonic() - self._last_line_s > _LINE_EVERY_S or self._finished == self._total
        ):
            self._last_line_s = time.monotonic()
            share = 100 * self._finished / self._total
            self.say(f"{share:3.0f} % {self._finished}/{self._total} {self._noun}, {self._time_text()}")

    def say(self, line: str) -> None:
        """Print a line for the user, without disturbing the bar."""
        if self._console is not None:
            self._console.write_line(line)

    def close(self) -> None:
        """Stop the bar and restore the terminal."""
        if self._bar is not None:
            self._bar.stop()

    def _time_text(self) -> str:
        elapsed_s = time.monotonic() - self._start_s
        if self._finished == self._total:
            return f"took {duration_text(elapsed_s, tenths=True)}"
        return f"about {duration_text(elapsed_s / (self._finished - self._existing) * (self._total - self._finished))} left"
