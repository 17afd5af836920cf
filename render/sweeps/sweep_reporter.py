"""Reports of a running sweep: its events go to log, screen and board, then into the page."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from pathlib import Path

from render.errors import UserError
from render.sweeps.axes.definition import SweepDefinition
from render.sweeps.gallery.exhibition_builder import build_exhibition
from render.sweeps.gallery.gallery_page import write_gallery
from render.sweeps.gallery.sheet import write_sheets
from render.sweeps.monitor.board import Board
from render.sweeps.monitor.event_log import Event, EventLog, point_event
from render.sweeps.monitor.screen import Screen
from render.sweeps.monitor.sweep_record import RecordedPoint
from render.sweeps.rendering.drafting import DraftedPoint, RefusedPoint

log = logging.getLogger(__name__)

#: Least seconds between two updates of the page while points are rendered, and the largest share of the time they may take.
_PAGE_EVERY_S, _MAX_PAGE_SHARE = 5.0, 0.05


class SweepReporter:
    """Reporter of one command. Any number of threads may call `report`.

    Attributes:
        board: The state of the points.
    """

    def __init__(
        self,
        definition: SweepDefinition,
        points: Sequence[DraftedPoint | RefusedPoint],
        sweep_directory: Path,
        command: str,
        events: EventLog,
    ) -> None:
        """Start to show the sweep.

        Args:
            definition: The sweep.
            points: Its points, in the order of the grid.
            sweep_directory: The sweep's directory.
            command: The command that makes the sweep again.
            events: The log of the directory.
        """
        self.board = Board([recorded_point(point) for point in points])
        self._definition = definition
        self._points = points
        self._sweep_directory = sweep_directory
        self._command = command
        self._events = events
        #: When the page is due. `show_beginning` writes the first one.
        self._page_due = time.monotonic()
        self._page_interval = _PAGE_EVERY_S
        self._screen = Screen(self.board, sweep_directory, quiet=definition.config.quiet)

    def report(self, event: Event) -> None:
        """Record and show an event."""
        self._screen.update(event)
        self._events.append(event)
        log.info("%s %s %s", event.kind, "" if event.point is None else self._points[event.point].label, event.facts)

    def report_settled_points(self) -> None:
        """Report the points that are done already, and those that cannot be rendered."""
        refused_count = 0
        for point in self._points:
            event = None
            if isinstance(point, RefusedPoint):
                event = point_event("failed", point.point.number, reason=point.reason)
                refused_count += 1
            elif point.is_done:
                event = point_event("skipped", point.point.number)
            if event is not None:
                # Bypass the screen, which would print each: there may be hundreds, and all are listed at the end.
                self.board.apply(event)
                self._events.append(event)
        if refused_count:
            self.say(f"{refused_count} of {len(self._points)} points cannot be rendered: the reasons are listed at the end")

    def say(self, text: str) -> None:
        """Print a line, unless the sweep is quiet."""
        self._screen.say(text)

    def show_beginning(self) -> None:
        """Write the page before anything is rendered, so that people can watch from the beginning.

        It may take long, as it composes configs that later pages share: it does not count in how often those may come.
        """
        self._update_page()
        self._page_due = time.monotonic() + self._page_interval

    def tick(self) -> None:
        """Update the screen, and now and then the page."""
        self._screen.tick()
        if time.monotonic() < self._page_due:
            return
        # The thread's own time: a busy machine does not make the page rarer.
        begun = time.thread_time()
        self._update_page()
        self._page_interval = max(_PAGE_EVERY_S, (time.thread_time() - begun) / _MAX_PAGE_SHARE)
        self._page_due = time.monotonic() + self._page_interval

    def _update_page(self) -> None:
        """Write the page; only log an error."""
        try:
            self.write_pages(sheets=False)
        except (UserError, OSError) as error:
            # A disk that is full for a while does not stop the sweep; the write at the end reports it.
            log.warning("the page is not up to date: %s", error)

    def write_pages(self, *, sheets: bool) -> tuple[Path, list[Path]]:
        """Write the page, and on request the contact sheets, for the current state.

        Return their paths.
        """
        exhibition = build_exhibition(
            self._definition, self._points, self.board, self._sweep_directory, self._command, self._page_interval
        )
        page = write_gallery(self._sweep_directory, exhibition)
        thumbnail_side = self._definition.config.sweep.thumbnail
        return page, write_sheets(self._sweep_directory, exhibition, thumbnail_side) if sheets else []

    def close(self) -> None:
        """Remove the live display."""
        self._screen.close()


def recorded_point(point: DraftedPoint | RefusedPoint) -> RecordedPoint:
    """Return a point as `sweep.json` lists it."""
    if isinstance(point, RefusedPoint):
        return RecordedPoint(point.point.number, point.label, 0.0, 0.0, "")
    return RecordedPoint(point.point.number, point.label, point.megapixels, point.teraflops, point.directory)
