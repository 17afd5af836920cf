"""Progress in a notebook: a bar in the cell's output, redrawn in place, with nothing but IPython."""

from __future__ import annotations

import html
import importlib
import time
from datetime import timedelta
from typing import Any
from uuid import uuid4

from render.job.progress import WorkCount
from render.planning.plan import Octave, Plan
from render.terminal.console import PatientConsole

#: Least time between two drawings of the bar, s.
_MIN_INTERVAL_S = 0.2


def in_notebook() -> bool:
    """Return True if this process is the kernel of a notebook."""
    return PatientConsole().is_jupyter


class NotebookDisplay:
    """Bar with octave, step, tile, Mpx/s and the time left, which disappears at the end.

    The bar is an HTML element, and one line of text where HTML is not shown. A bar of rich needs ipywidgets in notebooks.
    """

    def __init__(self, plan: Plan) -> None:
        """Show an empty bar in the output of the cell that runs."""
        # Every notebook's kernel has IPython; no other process imports it.
        self._ipython: Any = importlib.import_module("IPython.display")
        self._count = WorkCount(plan)
        self._id = f"render-{uuid4().hex}"
        self._drawn = time.monotonic()
        self._ipython.display(self._bar(), raw=True, display_id=self._id)

    def octave_started(self, octave: Octave, steps: int) -> None:
        """Show that an octave begins, or continues after `steps` steps."""
        self._count.begin(octave, steps)
        self._draw()

    def tiles_done(self, tiles: int) -> None:
        """Show that the gradients of `tiles` more tiles are known."""
        self._count.add(tiles)
        self._draw()

    def step_done(self, step: int) -> None:
        """Show that the canvas has been updated."""
        self._count.finish_step(step)
        self._draw()

    def say(self, line: str) -> None:
        """Show a line about an event below the bar."""
        self._ipython.display({"text/plain": line, "text/html": f"<div>{html.escape(line)}</div>"}, raw=True)

    def close(self) -> None:
        """Remove the bar."""
        self._update({"text/plain": "", "text/html": ""})

    def _draw(self) -> None:
        if time.monotonic() - self._drawn >= _MIN_INTERVAL_S:
            self._drawn = time.monotonic()
            self._update(self._bar())

    def _bar(self) -> dict[str, str]:
        """Return the bar as HTML and as text."""
        share, left = self._count.done_share, self._count.seconds_left
        remaining = "" if left is None else f", {timedelta(seconds=round(left))} left"
        text = f"{100 * share:.0f} % {self._count.text}{remaining}"
        element = f'<progress value="{share:.4f}" max="1" style="width: 20em"></progress>'
        return {"text/plain": text, "text/html": f"<div>{element} {html.escape(text)}</div>"}

    def _update(self, content: dict[str, str]) -> None:
        self._ipython.update_display(content, raw=True, display_id=self._id)
