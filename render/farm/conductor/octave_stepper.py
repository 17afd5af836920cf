"""The steps of one octave, which the workers take by themselves: started, followed and stopped from here."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Generator, Sequence
from contextlib import suppress

from render.errors import PeerLost, UrgentInterrupt, WorkersLost
from render.farm.conductor.dealt_workers import DealtWorkers
from render.farm.events import StepDone, TilesDone
from render.farm.messages import StepOrders
from render.farm.peers.group import RootLink, teams
from render.farm.peers.listening import new_key
from render.farm.remote import Promise
from render.farm.worker.interface import RemoteProcess
from render.planning.deal import Deal

#: Longest wait for a report before the workers are looked at, and for the last report after they have ended, s.
_PATIENCE_S, _LAST_WAIT_S = 0.25, 10.0


class OctaveStepper:
    """Has the workers that hold an octave's blocks take its steps."""

    def __init__(
        self,
        workers: DealtWorkers,
        check_notices: Callable[[], None] = lambda: None,
        note_step: Callable[[float, float], None] = lambda _mean, _seconds: None,
        steps_done: int = 0,
    ) -> None:
        """Store the settings.

        Args:
            workers: The workers, whose blocks are filled.
            check_notices: Called a few times a second; may raise to stop the steps.
            note_step: Called after each step with the mean over all regions of mean|g|, or of the normalisation in use, and
                the seconds that the step took.
            steps_done: Number of steps that the canvas has behind it.
        """
        self.workers = workers
        #: Steps done while the canvas is whole; None while the workers step.
        self.steps_done: int | None = steps_done
        self._check_notices = check_notices
        self._note_step = note_step
        self._link: RootLink | None = None
        #: Steps before the current run, what of it has been told, and whether more steps come.
        self._first = self._steps_told = self._tiles_told = 0
        self._goes_on = False

    @property
    def deal(self) -> Deal:
        """The octave, and its blocks."""
        return self.workers.deal

    def run(self, seed: int, most: int | None = None) -> Generator[TilesDone | StepDone, None, None]:
        """Have the workers step until the octave is done, or `stop_soon` is heard before, and yield their progress.

        If it ends early, by an exception of `check_notices`, a request to stop or a consumer that wants no more, the step
        in hand is given up and the canvas is whole all the same.

        Args:
            seed: Seed of the jitter.
            most: Most steps to take.

        Raises:
            WorkersLost: Workers have died or do not answer. The canvas is lost.
            UserError: The gradient is zero everywhere.
            NumericalError: A gradient is not finite.
        """
        running = self._start(seed, most)
        try:
            yield from self._follow(running)
            self._finish(running)
            yield from self._rest()
        except PeerLost as lost:
            raise WorkersLost(str(lost)) from None
        except (WorkersLost, UrgentInterrupt):
            raise
        except GeneratorExit:
            self._stop_at_once(running)
            for _ in self._rest():
                """Noted; nobody wants to hear it."""
            raise
        except BaseException:
            self._stop_at_once(running)
            yield from self._rest()
            raise
        finally:
            self._close_link()

    def stop_soon(self) -> None:
        """Have the workers stop after the step in hand."""
        self._request_stop(at_once=False)

    def _start(self, seed: int, most: int | None) -> Sequence[Promise[int]]:
        """Have all workers begin, and connect to the root."""
        assert self.steps_done is not None, "the canvas is whole"
        deal = self.deal
        addresses = self.workers.run_all(RemoteProcess.listen)
        key = new_key()
        parts = zip(teams(key, addresses, deal.neighbours), deal.rings, deal.ring_loans, strict=True)
        first, stop = self.steps_done, deal.octave.steps
        if most is not None:
            stop = min(stop, first + most)
        orders = [StepOrders(team, deal.octave, seed, first, stop, ring, loans) for team, ring, loans in parts]
        self.steps_done, self._first = None, first
        self._steps_told, self._tiles_told, self._goes_on = 0, 0, True
        running = self.workers.start_together(RemoteProcess.run_steps, orders)
        try:
            self._link = RootLink(key, addresses[0])
        except PeerLost as unreachable:
            # Another error than that they have waited for the driver tells more.
            with suppress(WorkersLost, PeerLost):
                self.workers.fetch(running)
            raise WorkersLost(str(unreachable)) from None
        return running

    def _follow(self, running: Sequence[Promise[int]]) -> Generator[TilesDone | StepDone, None, None]:
        """Yield progress until the root has taken the last step, or a worker has ended before."""
        next_look, heard = 0.0, False
        while self._goes_on:
            try:
                for event in self._told(_PATIENCE_S):
                    heard = True
                    yield event
            except PeerLost:
                # The root has failed: its call says why.
                self.workers.end_waiting(self.workers.poll(running, heard=True))
                return
            if (now := time.monotonic()) >= next_look:
                if ended := self.workers.poll(running, heard=heard):
                    self.workers.end_waiting(ended)
                    return
                self._check_notices()
                next_look, heard = now + _PATIENCE_S, False

    def _told(self, seconds: float) -> Generator[TilesDone | StepDone, None, None]:
        """Yield what the root has told since the last call; wait for the first at most `seconds`. Raise `PeerLost`."""
        octave = self.deal.octave
        if self._link is None:
            return
        # All are counted before any is told: whoever wants no more ends this here, and what is counted is not waited for.
        events: list[TilesDone | StepDone] = []
        for report in self._link.reports(seconds):
            tiles = math.floor(report.share * octave.grid.tiles)
            if tiles > self._tiles_told:
                events.append(TilesDone(octave, tiles - self._tiles_told))
                self._tiles_told = tiles
            if report.is_step:
                self._tiles_told = 0
                self._steps_told += 1
                self._goes_on = report.goes_on
                self._note_step(report.mean, report.seconds)
                events.append(StepDone(octave, report.step, report.mean, report.seconds))
        yield from events

    def _finish(self, running: Sequence[Promise[int]]) -> None:
        """Wait until all workers have ended, and note how many steps the canvas has."""
        counts = set(self.workers.fetch(running))
        assert len(counts) == 1, f"workers have ended after different steps: {counts}"
        self.steps_done = counts.pop()

    def _stop_at_once(self, running: Sequence[Promise[int]]) -> None:
        """Have all workers give the step in hand up, and wait for them. The step may end all the same."""
        self._request_stop(at_once=True)
        self._finish(running)

    def _rest(self) -> Generator[TilesDone | StepDone, None, None]:
        """Yield what the root has told of the steps taken. Reports come on another way than results, and may come later."""
        while self._steps_told < self._steps_taken:
            yield from self._told(_LAST_WAIT_S)

    @property
    def _steps_taken(self) -> int:
        """Number of steps of the current run, once all workers have ended."""
        assert self.steps_done is not None, "the workers still step"
        return self.steps_done - self._first

    def _request_stop(self, *, at_once: bool) -> None:
        """Ask the root to stop."""
        if self._link is None:
            return
        try:
            self._link.stop(at_once=at_once)
        except PeerLost:
            # It has failed: its call says why.
            return

    def _close_link(self) -> None:
        if self._link is not None:
            self._link.close()
            self._link = None
