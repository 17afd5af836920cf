"""One command of a sweep, from drafted points to the gallery: record, interrupts, end."""

from __future__ import annotations

import logging
import os
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from render.config.schema import FarmConfig
from render.errors import UrgentInterrupt, UserError
from render.job.progress import duration_text, say
from render.sweeps.axes.definition import SweepDefinition, axis_names
from render.sweeps.breeding.lineage_record import lineage_facts
from render.sweeps.monitor.board import PointStatus
from render.sweeps.monitor.event_log import Event
from render.sweeps.rendering.drafting import DraftedPoint, RefusedPoint, kernels_of
from render.sweeps.rendering.render_points import render_points
from render.sweeps.rendering.worker_loop import LaunchSettings
from render.sweeps.sweep_directory import SweepDirectory
from render.sweeps.sweep_reporter import SweepReporter, recorded_point
from render.system import interrupts
from render.system.beginning import note_beginning
from render.terminal.lines import print_lines

log = logging.getLogger(__name__)

#: Largest number of failures that are listed one by one at the end.
_MAX_LISTED_FAILURES = 30
#: Exit code if points failed.
FAILED = 1


class SweepRun:
    """Run of one command whose points have been checked."""

    def __init__(
        self,
        definition: SweepDefinition,
        points: Sequence[DraftedPoint | RefusedPoint],
        directory: SweepDirectory,
        farm: FarmConfig,
        command: str,
    ) -> None:
        """Prepare the run; nothing is written yet.

        Args:
            definition: The sweep.
            points: Its points, in the order of the grid.
            directory: Its directory.
            farm: The farm that renders it.
            command: The command that makes it again.
        """
        self._definition = definition
        self._points = points
        self._directory = directory
        self._farm = farm
        self._command = command
        self._quiet = definition.config.quiet
        self._begun = time.time()

    def run(self) -> int:
        """Render the points that are not done, and write the pages; return the exit code.

        Raises:
            KeyboardInterrupt: If interrupted, once all canvases are saved.
        """
        with self._directory.opened(self._facts()) as events:
            reporter = SweepReporter(self._definition, self._points, self._directory.path, self._command, events)
            board = reporter.board
            try:
                with interrupts.deferred(quiet=self._quiet):
                    self._render(reporter)
            except KeyboardInterrupt as interrupt:
                self._break_off(reporter, "interrupted", show=not isinstance(interrupt, UrgentInterrupt))
                raise KeyboardInterrupt(
                    f"interrupted; {board.counts.done} of {len(self._points)} points are done: "
                    "the same command goes on with the others"
                ) from None
            except BaseException:
                self._break_off(reporter, "failed", show=True)
                raise
            self._end(reporter, "failed" if board.failures else "finished")
            page, sheets = reporter.write_pages(sheets=True)
        self._summarise(reporter, page, sheets)
        return FAILED if board.failures else 0

    def _facts(self) -> dict[str, Any]:
        """Return what the sweep's record says of this command."""
        axes = [{"key": axis.key, "values": [value.label for value in axis.values]} for axis in self._definition.axes]
        points = [
            asdict(recorded_point(point)) | {"at": point.point.value_indices, "words": point.point.words}
            for point in self._points
        ]
        facts = {"name": self._definition.config.name, "command": self._command, "axes": axes, "points": points}
        return facts | {"table": self._definition.table_axes()} | lineage_facts(self._definition)

    def _render(self, reporter: SweepReporter) -> None:
        """Report the beginning and the points that are not rendered, then render the others."""
        reporter.report(Event("begun", self._begun, None, {"pid": os.getpid(), "points": len(self._points)}))
        reporter.report_settled_points()
        waiting = [point for point in self._points if isinstance(point, DraftedPoint) and not point.is_done]
        if not waiting:
            return
        note_beginning()
        reporter.say(self._waiting_text(waiting))
        reporter.show_beginning()
        section = self._definition.config.sweep
        settings = LaunchSettings(section.retries, section.thumbnail, self._directory.stop)
        render_points(self._definition, waiting, self._farm, settings, reporter, self._directory.record)

    def _end(self, reporter: SweepReporter, status: str) -> None:
        """Report and record how the command ended."""
        seconds = round(time.time() - self._begun, 3)
        try:
            reporter.report(Event("ended", time.time(), None, {"status": status, "seconds": seconds}))
        finally:
            reporter.close()
        failures = [{"point": failure.point.label, "reason": failure.reason} for failure in reporter.board.failures]
        self._directory.save(status=status, seconds=seconds, failures=failures)

    def _break_off(self, reporter: SweepReporter, status: str, *, show: bool) -> None:
        """Finish record and page while another error is being raised.

        Failures here are only logged: the user must read the other error last.
        """
        try:
            self._end(reporter, status)
            if show:
                reporter.write_pages(sheets=True)
        except (UserError, OSError) as error:
            log.warning("the sweep's record and page are not up to date: %s", error)
        _print_failures(reporter)

    def _waiting_text(self, waiting: Sequence[DraftedPoint]) -> str:
        """Return a line about the points that are about to be rendered."""
        megapixels = sum(point.megapixels for point in waiting)
        names = axis_names(self._definition.axes)
        axes = " x ".join(f"{len(axis.values)} {name}" for axis, name in zip(self._definition.axes, names, strict=True))
        resumed = sum(point.is_begun for point in waiting)
        resumed_text = f" ({resumed} from where they stopped)" if resumed else ""
        points_text = f"{len(waiting)} of {len(self._points)} points to render{resumed_text}"
        kernels = len(kernels_of(waiting))
        kernels_text = f"{kernels} kernel{'' if kernels == 1 else 's'}"
        return f"{axes}: {points_text}, {megapixels:,.1f} Mpx with {kernels_text} -> {self._directory.path}"

    def _summarise(self, reporter: SweepReporter, page: Path, sheets: Sequence[Path]) -> None:
        """Print how many points are done, the paths of the pages, and the failures."""
        counts = reporter.board.counts
        seconds = reporter.board.elapsed(time.time())
        skipped_text = f", {counts.skipped} of them before" if counts.skipped else ""
        summary = (
            f"{counts.done} of {counts.total} points are done{skipped_text}; took {duration_text(seconds, tenths=True)}"
        )
        say(summary, *map(str, [*sheets, page]), quiet=self._quiet)
        _print_failures(reporter)


def failure_summary(failures: Sequence[PointStatus], total: int) -> list[str]:
    """Return a line for each failed point, or for each reason if there are many failures."""
    lines = [f"render: {len(failures)} of {total} points failed; the same command tries them again"]
    if len(failures) <= _MAX_LISTED_FAILURES:
        return [*lines, *(f"  {failure.point.label}: {failure.reason}" for failure in failures)]
    labels_by_reason: dict[str, list[str]] = {}
    for failure in failures:
        labels_by_reason.setdefault(failure.reason, []).append(failure.point.label)
    for reason, labels in labels_by_reason.items():
        more_text = f" and {len(labels) - 1} more" if len(labels) > 1 else ""
        lines.append(f"  {labels[0]}{more_text}: {reason}")
    return [*lines, "  sweep.json lists them all"]


def _print_failures(reporter: SweepReporter) -> None:
    """Print the failures, if there are any, on standard error."""
    if reporter.board.failures:
        print_lines(*failure_summary(reporter.board.failures, reporter.board.counts.total), file=sys.stderr)
