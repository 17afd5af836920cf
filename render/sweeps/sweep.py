"""`make sweep`: a grid of jobs on one farm, from the words on the command line to the gallery of results."""

from __future__ import annotations

import logging
import os
import sys
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from render.canvas import store
from render.config.schema import FarmConfig
from render.errors import RenderError, UrgentInterrupt, UserError
from render.farm.farms import Farm, open_farm
from render.job import job as jobs
from render.job.progress import duration_text, say
from render.job.report import start_logging
from render.job.resolve import NetworkChoice
from render.job.resources import store_bytes
from render.networks.weights import Loaded
from render.sweeps.axes import Found, axis_names, find_axes
from render.sweeps.board import Board, BoardPoint, Standing
from render.sweeps.drafting import Drafted, Refused, draft_points
from render.sweeps.estimate import project
from render.sweeps.event_log import Event
from render.sweeps.exhibit import exhibition, sweep_command
from render.sweeps.gallery import write_gallery
from render.sweeps.launcher import Assigned, Launcher
from render.sweeps.points import count, expand, rank
from render.sweeps.queue import KernelKey, Task
from render.sweeps.renderer import WeightsKey, weights_key
from render.sweeps.screen import Screen
from render.sweeps.sheet import write_sheets
from render.sweeps.sweep_directory import SweepDirectory, sweep_path
from render.system import interrupts
from render.system.machine import cores, host_memory
from render.terminal.lines import print_lines

log = logging.getLogger(__name__)

#: Seconds between two updates of the page while points are rendered.
_PAGE_EVERY = 30.0
#: Most points that are checked without a message.
_MANY = 200
#: Bytes that Ray stores besides weights, and most bytes of a network's weights.
_STORED_BYTES, _WEIGHTS_BYTES = 150_000_000, 120_000_000
#: Most failures that are listed one by one at the end.
_LISTED = 30
#: Exit code if points failed.
FAILED = 1


def sweep(root: str, words: Sequence[str]) -> int:
    """Render all points of a sweep that are not done yet; return the exit code, 1 if any failed.

    Raises:
        UserError: Before anything is rendered, for words that do not make a valid sweep.
    """
    return sweep_axes(root, words, find_axes(root, words))


def sweep_axes(root: str, words: Sequence[str], swept: Found) -> int:
    """Do what `sweep` does, with the axes that its words make."""
    interrupts.hold()
    quiet = swept.job.quiet
    start_logging(quiet=quiet)
    limit, number = swept.job.sweep.max, count(swept)
    if number > limit:
        raise UserError(
            f"{number:,} points are more than sweep.max={limit:,} ({project(swept)}): raise sweep.max to render them all"
        )
    directory = SweepDirectory(sweep_path(swept))
    directory.check()
    if number > _MANY:
        say(f"checking {number:,} points", quiet=quiet)
    farm = sweep_farm(swept.job.farm, number)
    share_gb = host_memory() / (farm.workers or 1) / 1e9
    points = list(draft_points(swept, expand(swept), directory.path, share_gb, interrupts.check))
    refused = [point for point in points if isinstance(point, Refused)]
    if refused and (swept.job.sweep.strict or len(refused) == len(points)):
        others_text = f" (and {len(refused) - 1} more of {len(points)} points)" if len(refused) > 1 else ""
        raise UserError(f"{refused[0].label}: {refused[0].reason}{others_text}")
    return _Run(root, words, swept, farm, directory, points).run()


def sweep_farm(farm: FarmConfig, points: int) -> FarmConfig:
    """Return the farm for so many points: on local CPUs it has two workers if the config sets no number.

    While one worker reads, writes or schedules, the other computes; on two cores that saves a fifth of the time. Each has
    as many threads as a single render, so that sums are rounded in the same way. The inline executor has one worker, since
    its kernels and each run's log belong to this process.
    """
    if farm.executor == "inline":
        return replace(farm, workers=1)
    if farm.executor != "ray" or farm.address is not None or farm.workers is not None or points < 2 or cores() < 2:
        return farm
    from render.farm.ray.actors import has_plugin

    return farm if has_plugin("cuda") or has_plugin("tpu") else replace(farm, workers=2)


class _Run:
    """Run of one command whose points have been checked."""

    def __init__(
        self,
        root: str,
        words: Sequence[str],
        found: Found,
        farm: FarmConfig,
        directory: SweepDirectory,
        points: Sequence[Drafted | Refused],
    ) -> None:
        self._found = found
        self._job = found.job
        self._farm = farm
        self._directory = directory
        self._points = points
        self._drafted = {point.point.number: point for point in points if isinstance(point, Drafted)}
        self._command = sweep_command(root, words)
        self._board = Board([_listed(point) for point in points])
        self._begun = time.time()
        self._written = time.monotonic()

    def run(self) -> int:
        axes = [{"key": axis.key, "values": [value.label for value in axis.values]} for axis in self._found.axes]
        facts = {
            "name": self._job.name,
            "command": self._command,
            "axes": axes,
            "points": [_recorded(point) for point in self._points],
        }
        with self._directory.opened(facts) as self._events:
            self._screen = Screen(self._board, self._directory.path, quiet=self._job.quiet)
            try:
                with interrupts.deferred(quiet=self._job.quiet):
                    self._tell(Event("begun", self._begun, None, {"pid": os.getpid(), "points": len(self._points)}))
                    self._set_aside()
                    waiting = [point for point in self._drafted.values() if not point.done]
                    if waiting:
                        self._screen.say(self._summary(waiting))
                        self._render(waiting)
            except KeyboardInterrupt as interrupt:
                self._break_off("interrupted", show=not isinstance(interrupt, UrgentInterrupt))
                done = self._board.counts.done
                raise KeyboardInterrupt(
                    f"interrupted; {done} of {len(self._points)} points are done: the same command goes on with the others"
                ) from None
            except BaseException:
                self._break_off("failed", show=True)
                raise
            self._end("failed" if self._board.failures else "finished")
            page, sheets = self._show(sheets=True)
        self._summarise(page, sheets)
        return FAILED if self._board.failures else 0

    def _end(self, status: str) -> None:
        """Report and record how the command ended."""
        seconds = round(time.time() - self._begun, 3)
        try:
            self._tell(Event("ended", time.time(), None, {"status": status, "seconds": seconds}))
        finally:
            self._screen.close()
        failures = [{"point": standing.point.label, "reason": standing.reason} for standing in self._board.failures]
        self._directory.save(status=status, seconds=seconds, failures=failures)

    def _break_off(self, status: str, *, show: bool) -> None:
        """Finish record and page while another error is being raised, which the user must read last."""
        try:
            self._end(status)
            if show:
                self._show(sheets=True)
        except (UserError, OSError) as error:
            log.warning("the sweep's record and page are not up to date: %s", error)
        self._list_failures()

    def _summary(self, waiting: Sequence[Drafted]) -> str:
        """Return a line about the points that are about to be rendered."""
        megapixels = sum(point.megapixels for point in waiting)
        names = axis_names(self._found.axes)
        axes = " x ".join(f"{len(axis.values)} {name}" for axis, name in zip(self._found.axes, names, strict=True))
        resumed = sum(point.begun for point in waiting)
        resumed_text = f" ({resumed} from where they stopped)" if resumed else ""
        points_text = f"{len(waiting)} of {len(self._points)} points to render{resumed_text}"
        return (
            f"{axes}: {points_text}, {megapixels:,.1f} Mpx with {len(_kernels(waiting))} kernels -> {self._directory.path}"
        )

    def _set_aside(self) -> None:
        """Report the points that are not rendered: those that are done, and those that cannot be rendered."""
        refused = 0
        for point in self._points:
            event = None
            if isinstance(point, Refused):
                event = Event("failed", time.time(), point.point.number, {"reason": point.reason})
                refused += 1
            elif point.done:
                event = Event("skipped", time.time(), point.point.number)
            if event is not None:
                # Bypass the screen, which would print each: there may be hundreds, and all are listed at the end.
                self._board.apply(event)
                self._events.append(event)
        if refused:
            self._screen.say(f"{refused} of {len(self._points)} points cannot be rendered: why is said at the end")

    def _render(self, waiting: Sequence[Drafted]) -> None:
        with ThreadPoolExecutor(1) as background:
            # Start Ray and read weights concurrently: both take seconds and wait for different resources.
            loading = background.submit(self._load, waiting)
            background.submit(store.get_ready)
            with open_farm(
                self._farm,
                threads=self._farm.worker.threads or cores(),
                store_bytes=_store_bytes(waiting, self._farm.workers or 1),
                check=interrupts.check,
                say=self._screen.say,
            ) as farm:
                loaded = loading.result()
                self._launch(farm, [point for point in waiting if weights_key(point.config) in loaded], loaded)

    def _load(self, waiting: Sequence[Drafted]) -> dict[WeightsKey, Loaded]:
        """Load the weights of all networks; fail the points whose weights cannot be loaded."""
        loaded: dict[WeightsKey, Loaded] = {}
        reasons: dict[WeightsKey, str] = {}
        for point in waiting:
            key = weights_key(point.config)
            if key not in loaded and key not in reasons:
                try:
                    loaded[key] = jobs.load_weights(NetworkChoice.of(point.config.model))
                except RenderError as error:
                    reasons[key] = str(error)
            if key in reasons:
                self._tell(Event("failed", time.time(), point.point.number, {"reason": reasons[key]}))
        return loaded

    def _launch(self, farm: Farm, waiting: Sequence[Drafted], loaded: dict[WeightsKey, Loaded]) -> None:
        """Render the points rank by rank: first one point per worker, then the large points with all workers."""
        total = sum(point.teraflops for point in waiting)
        large = {
            point.point.number
            for point in waiting
            if farm.size > 1 and (not point.fits or (point.tiles > 1 and point.teraflops * farm.size > total))
        }
        launcher = Launcher(
            farm,
            loaded,
            retries=self._job.sweep.retries,
            thumbnail=self._job.sweep.thumbnail,
            stop=self._directory.stop,
            tell=self._tell,
            tick=self._tick,
        )
        try:
            for points in _by_rank(self._found, waiting) if large else [waiting]:
                assigned = [_assigned(self._found, point) for point in points]
                launcher.pack([point for point in assigned if point.number not in large])
                launcher.spread([point for point in assigned if point.number in large])
        finally:
            self._directory.record |= {
                "workers": farm.size,
                "kernels": len(_kernels(waiting)),
                "compiled": sum(launcher.tally.compiled.values()),
                "peak_bytes": launcher.tally.peak_bytes,
            }

    def _tell(self, event: Event) -> None:
        self._screen.update(event)
        self._events.append(event)
        log.info("%s %s %s", event.kind, "" if event.point is None else self._points[event.point].label, event.facts)

    def _tick(self) -> None:
        self._screen.tick()
        if time.monotonic() - self._written > _PAGE_EVERY:
            # A disk that is full for a while does not stop the sweep; the write at the end reports it.
            self._written = time.monotonic()
            try:
                self._show(sheets=False)
            except (UserError, OSError) as error:
                log.warning("the page is not up to date: %s", error)

    def _show(self, *, sheets: bool) -> tuple[Path, list[Path]]:
        """Write the page, and if asked the contact sheets, for the current state."""
        home = self._directory.path
        content = exhibition(self._found, self._points, self._board, home, self._command)
        page = write_gallery(home, content)
        self._written = time.monotonic()
        return page, write_sheets(home, content, self._job.sweep.thumbnail) if sheets else []

    def _summarise(self, page: Path, sheets: Sequence[Path]) -> None:
        counts = self._board.counts
        seconds = self._board.elapsed(time.time())
        skipped_text = f", {counts.skipped} of them before" if counts.skipped else ""
        summary = f"{counts.done} of {counts.total} points are done{skipped_text}; took {duration_text(seconds)}"
        say(summary, *map(str, [*sheets, page]), quiet=self._job.quiet)
        self._list_failures()

    def _list_failures(self) -> None:
        if self._board.failures:
            print_lines(*failure_lines(self._board.failures, self._board.counts.total), file=sys.stderr)


def failure_lines(failures: Sequence[Standing], total: int) -> list[str]:
    """Return a line for each failed point with its reason, or for each reason if there are many failures."""
    lines = [f"render: {len(failures)} of {total} points failed; the same command tries them again"]
    if len(failures) <= _LISTED:
        return [*lines, *(f"  {standing.point.label}: {standing.reason}" for standing in failures)]
    reasons: dict[str, list[str]] = {}
    for standing in failures:
        reasons.setdefault(standing.reason, []).append(standing.point.label)
    for reason, labels in reasons.items():
        more_text = f" and {len(labels) - 1} more" if len(labels) > 1 else ""
        lines.append(f"  {labels[0]}{more_text}: {reason}")
    return [*lines, "  sweep.json lists them all"]


def _kernels(points: Sequence[Drafted]) -> frozenset[KernelKey]:
    return frozenset[KernelKey]().union(*(point.kernels for point in points))


def _by_rank(found: Found, points: Sequence[Drafted]) -> Iterator[list[Drafted]]:
    ranks = {point.point.number: rank(found, point.point) for point in points}
    for point_rank in sorted(set(ranks.values()), reverse=True):
        yield [point for point in points if ranks[point.point.number] == point_rank]


def _assigned(found: Found, point: Drafted) -> Assigned:
    number = point.point.number
    return Assigned(number, point.config, Task(number, point.kernels, rank(found, point.point)))


def _listed(point: Drafted | Refused) -> BoardPoint:
    if isinstance(point, Refused):
        return BoardPoint(point.point.number, point.label, 0.0, 0.0, "")
    return BoardPoint(point.point.number, point.label, point.megapixels, point.teraflops, point.directory)


def _recorded(point: Drafted | Refused) -> dict[str, Any]:
    return asdict(_listed(point)) | {"at": point.point.at, "words": point.point.words}


def _store_bytes(points: Sequence[Drafted], workers: int) -> int:
    """Return the bytes that Ray stores at once here: all weights, and the transfers of the largest spread point."""
    weights = _WEIGHTS_BYTES * len({weights_key(point.config) for point in points})
    large_points = [point for point in points if workers > 1 and (point.tiles > 1 or not point.fits)]
    if not large_points:
        return _STORED_BYTES + weights
    largest = max(large_points, key=lambda point: point.megapixels)
    draft = jobs.draft(largest.config)
    return _STORED_BYTES + weights + store_bytes(draft.resolved, draft.plan)
