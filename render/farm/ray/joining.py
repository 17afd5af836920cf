"""Workers that join a running job: replacements of failed ones, and additions where there is room."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass

import ray
from ray.exceptions import RayError

from render.farm.executors import Reference
from render.farm.ray.actors import MAX_START_S, Member
from render.farm.ray.failures import read_failure
from render.farm.ray.starter import WorkerStarter

log = logging.getLogger(__name__)

#: Longest wait for replacements while the other workers could go on, s.
_MAX_REPLACEMENT_S = 60.0
#: Time between checks for room for more workers, and the longest pause after failed starts, s.
_CHECK_PERIOD_S, _MAX_PAUSE_S = 5.0, 60.0
#: Time after which a worker that has not become ready is released, s.
_MAX_JOINING_S = 300.0


@dataclass(eq=False)
class _Candidate:
    """A worker that starts while the others work; `opened` resolves once it is ready for the job."""

    member: Member
    begun_at: float
    opened: Reference | None = None

    @property
    def is_ready(self) -> bool:
        """True if it is ready for the job, or failed to become ready."""
        return self.opened is not None and bool(ray.wait([self.opened], timeout=0)[0])


class JoiningWorkers:
    """Workers that are being started for a job.

    They start in the background, prepare for the job, and join when the job takes them.
    """

    def __init__(self, starter: WorkerStarter, target_count: int) -> None:
        """Start none yet.

        Args:
            starter: Starter of single workers.
            target_count: Number of workers that the job should have.
        """
        self._starter = starter
        self._cluster, self._placement = starter.cluster, starter.placement
        self._target_count = target_count
        self._job: tuple[Reference, ...] = ()
        self._candidates: list[_Candidate] = []
        self._next_check_at = self._paused_until = 0.0
        self._failed_starts = 0

    def set_job(self, job: Sequence[Reference]) -> None:
        """Set the arguments of `WorkerProcess.open` for all workers that join later."""
        self._job = tuple(job)

    def lower_target(self) -> None:
        """Let the job have one worker less."""
        self._target_count -= 1

    def count_ready(self, members: Sequence[Member]) -> int:
        """Return how many workers `take_ready` would return now.

        Now and then, start more where there is room.
        """
        if time.monotonic() >= self._next_check_at:
            self.start_more(members)
        self._advance()
        return sum(candidate.is_ready for candidate in self._candidates)

    def start_more(self, members: Sequence[Member]) -> None:
        """Start workers if there are fewer than there should be, and room; do not wait for them.

        Args:
            members: The job's workers.
        """
        self._next_check_at = time.monotonic() + _CHECK_PERIOD_S
        self._advance()
        if time.monotonic() < self._paused_until:
            return
        is_local = self._cluster.is_local
        target_count = self._target_count if is_local else max(self._target_count, self._placement.target_count())
        worker_count = len(members) + len(self._candidates)
        # A worker that waits for room makes an autoscaling cluster grow.
        can_wait = not is_local and self._cluster.config.workers is not None
        if worker_count < target_count and (can_wait or self._placement.room() > worker_count):
            self._begin(target_count - worker_count, members)

    def take_ready(self) -> list[Member]:
        """Return the workers that are ready for the job, which has them from now on."""
        self._cluster.check_node()
        self._advance()
        joined: list[_Candidate] = []
        for candidate in list(self._candidates):
            if candidate.opened is None or not candidate.is_ready:
                continue
            try:
                ray.get(candidate.opened)
            except RayError as error:
                log.warning("a worker (%s) failed at once: %s", candidate.member, read_failure(error).reason)
                self._release_failed(candidate)
                continue
            joined.append(candidate)
        for candidate in joined:
            self._candidates.remove(candidate)
            self._failed_starts = 0
        return [candidate.member for candidate in joined]

    def replace(self, failure_counts: Sequence[int], survivors: Sequence[Member]) -> list[Member]:
        """Start replacements of failed workers; return those that are ready after a limited wait.

        Those without room join later. If there are no survivors, wait as `await_any` does.

        Args:
            failure_counts: For each failed worker, its number of failures, which the replacement takes over.
            survivors: The other workers.
        """
        candidates = self._begin(len(failure_counts), survivors)
        for candidate, count in zip(candidates, failure_counts, strict=False):
            candidate.member.failures = count
        if not survivors:
            return self.await_any(len(failure_counts))
        self._await(candidates, _MAX_REPLACEMENT_S, len(survivors))
        return self.take_ready()

    def await_any(self, count: int) -> list[Member]:
        """Return workers for a job that has none: wait for room, and then for their start.

        The wait for room is limited by the config's `timeout`.

        Start at most `count`, and repeat failed starts as often as the config's `retries` allows.
        """
        deadline = time.monotonic() + self._cluster.config.timeout
        attempts = 0
        while (time.monotonic() < deadline or self._candidates) and attempts <= self._cluster.config.retries:
            if not self._candidates:
                attempts += bool(self._begin(count, []))
            self._await(self._candidates, MAX_START_S, 0)
            joined = self.take_ready()
            if joined or time.monotonic() > deadline:
                return joined
            time.sleep(1.0)
            self._cluster.check()
        return []

    def close(self) -> None:
        """End the workers that have not joined."""
        for candidate in self._candidates:
            self._starter.kill(candidate.member)
        self._candidates = []

    def _begin(self, count: int, members: Sequence[Member]) -> list[_Candidate]:
        used = [*members, *(candidate.member for candidate in self._candidates)]
        now = time.monotonic()
        candidates = [_Candidate(member, now) for member in self._starter.begin(count, used)]
        self._candidates += candidates
        return candidates

    def _advance(self) -> None:
        """Prepare started workers for the job, and release those that cannot join.

        These are workers that failed or take too long, or whose node is about to go.
        """
        leaving = self._cluster.leaving_nodes
        for candidate in list(self._candidates):
            is_late = time.monotonic() - candidate.begun_at > _MAX_JOINING_S
            if candidate.opened is None and candidate.member.is_ready:
                if self._starter.has_started(candidate.member):
                    candidate.opened = candidate.member.handle.call.remote("open", *self._job)
                else:
                    self._release_failed(candidate)
            elif candidate.member.node in leaving or (is_late and not candidate.is_ready):
                self._release(candidate)

    def _release(self, candidate: _Candidate) -> None:
        self._candidates.remove(candidate)
        self._starter.kill(candidate.member)

    def _release_failed(self, candidate: _Candidate) -> None:
        """Release a worker that failed at its start. Each failure in a row delays the next start more."""
        self._release(candidate)
        self._failed_starts += 1
        self._paused_until = time.monotonic() + min(_MAX_PAUSE_S, _CHECK_PERIOD_S * self._failed_starts)

    def _await(self, candidates: Sequence[_Candidate], seconds: float, member_count: int) -> None:
        """Wait until candidates are ready, or there is no room for them.

        Args:
            candidates: The workers to wait for.
            seconds: Longest wait, s.
            member_count: Number of the job's workers, which have room already.
        """
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            self._advance()
            waiting = [entry for entry in candidates if entry in self._candidates and not entry.is_ready]
            if not waiting or self._placement.room() <= member_count:
                return
            ray.wait([entry.opened or entry.member.ready for entry in waiting], num_returns=1, timeout=1.0)
            self._cluster.check()
