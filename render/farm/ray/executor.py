"""Executor of the workers that one job has leased."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping, Sequence
from typing import Any

import ray
from ray.exceptions import RayError

from render.errors import UserError, WorkersLost
from render.farm.executors import Reference
from render.farm.messages import WorkerFacts
from render.farm.notice import Notice
from render.farm.ray.actors import Member
from render.farm.ray.failures import first_cause
from render.farm.ray.health import WorkerHealth
from render.farm.ray.joining import JoiningWorkers
from render.farm.ray.starter import WorkerStarter

log = logging.getLogger(__name__)


class RayExecutor:
    """Calls to the workers that one job has leased; replaces and adds workers.

    `WorkerHealth` finds the workers to replace, and `JoiningWorkers` starts others.
    """

    def __init__(self, starter: WorkerStarter, members: list[Member]) -> None:
        """Take over the leased workers.

        Args:
            starter: Starter of single workers.
            members: The leased workers, in the order of their numbers.
        """
        self.members = members
        self._starter = starter
        self._cluster = starter.cluster
        self._health = WorkerHealth(starter)
        self._joining = JoiningWorkers(starter, len(members))

    @property
    def workers(self) -> int:
        """Number of workers."""
        return len(self.members)

    def open(self, *job: Any) -> list[WorkerFacts]:
        """See `WorkerProcess.open`; its arguments are sent to each node once.

        Workers lost during the call are replaced.

        An argument may be a reference from `RayFarm.share`.
        """
        arguments = [argument if isinstance(argument, ray.ObjectRef) else ray.put(argument) for argument in job]
        self._joining.set_job(arguments)
        while True:
            try:
                return self.fetch([self.call(worker, "open", *arguments) for worker in range(self.workers)])
            except WorkersLost:
                self.mend()

    def call(self, worker: int, method: str, *arguments: Any) -> Reference:
        """See `Executor.call`."""
        return self.members[worker].handle.call.remote(method, *arguments)

    def call_together(self, method: str, arguments: Sequence[Sequence[Any]]) -> list[Reference]:
        """See `Executor.call_together`."""
        self._health.begin_wait()
        return [self.call(worker, method, *values) for worker, values in enumerate(arguments)]

    def poll(self, references: Sequence[Reference], *, heard: bool) -> list[Reference]:
        """See `Executor.poll`."""
        self._cluster.check()
        ready = ray.wait(list(references), num_returns=len(references), timeout=0)[0]
        if ready or heard:
            self._health.note_result()
        else:
            self._health.check_silence(self.members)
        return ready

    def end_waiting(self, ready: Sequence[Reference]) -> None:
        """See `Executor.end_waiting`. Connections to a machine that has vanished may stay open for a quarter of an hour."""
        try:
            ray.get(list(ready))
        except RayError:
            for member in self.members:
                member.handle.give_up.remote()

    def node_of(self, worker: int) -> str:
        """See `Executor.node_of`."""
        return self.members[worker].node or ""

    def wait(self, references: Sequence[Reference]) -> list[Reference]:
        """See `Executor.wait`."""
        self._health.begin_wait()
        while True:
            self._cluster.check()
            ready, _ = ray.wait(list(references), num_returns=1, timeout=1.0)
            if ready:
                self._health.note_result()
                # Return all results that are ready, so that many small ones do not need a turn each.
                return ray.wait(list(references), num_returns=len(references), timeout=0)[0]
            self._health.check_silence(self.members)

    def fetch(self, references: Sequence[Reference]) -> list[Any]:
        """See `Executor.fetch`."""
        # Wait for all before raising an error, so that no worker still runs a call that is given up.
        waiting = list(references)
        self._health.begin_wait()
        while waiting:
            self._cluster.check_node()
            ready, waiting = ray.wait(waiting, num_returns=len(waiting), timeout=1.0)
            if ready:
                self._health.note_result()
            else:
                self._health.check_silence(self.members)
        try:
            return ray.get(list(references))
        except RayError:
            raise self._health.note_failure(first_cause(references), self.members) from None

    def grow(self) -> int:
        """See `Executor.grow`."""
        self._joining.start_more(self.members)
        joined = self._joining.take_ready()
        self.members += joined
        return len(joined)

    def joining(self) -> int:
        """See `Executor.joining`."""
        return self._joining.count_ready(self.members)

    def notices(self) -> list[Notice]:
        """See `Executor.notices`."""
        leaving = self._cluster.leaving_nodes
        if not leaving:
            return []
        by_node: dict[str, list[int]] = {}
        for number, member in enumerate(self.members):
            if member.node in leaving:
                by_node.setdefault(member.node, []).append(number)
        now = time.time()
        return [Notice(tuple(numbers), leaving[node].reason, leaving[node].left(now)) for node, numbers in by_node.items()]

    def retire(self, workers: Sequence[int]) -> None:
        """See `Executor.retire`."""
        retired = set(workers)
        for number in retired:
            log.info("worker %d (%s) is let go", number + 1, self.members[number])
            self._starter.kill(self.members[number])
        self.members = [member for number, member in enumerate(self.members) if number not in retired]
        self._health.forget_faults()
        if not self.members:
            self.members = self._joining.await_any(len(retired))
        if not self.members:
            raise UserError(
                f"the machines of all workers are about to go, and no other came within {self._cluster.config.timeout:g} s "
                "(farm.timeout): the last checkpoint is kept, and the same command goes on from it"
            )

    def mend(self) -> None:
        """See `Executor.mend`."""
        self._cluster.check_node()
        lost = self._health.find_lost(self.members)
        failure_counts = self._release_lost(lost)
        self.members = [member for member in self.members if member not in lost]
        if failure_counts:
            self.members += self._joining.replace(failure_counts, self.members)
        if not self.members:
            detail = f" (the last: {list(lost.values())[-1]})" if lost else ""
            raise UserError(
                f"no worker is left after {self._cluster.config.retries} retries{detail}: the last checkpoint is kept, and "
                "the same command goes on from it"
            )

    def settled(self) -> None:
        """See `Executor.settled`."""
        self._health.note_checkpoint()
        for member in self.members:
            member.failures = 0

    def close(self) -> None:
        """Release workers that have not joined yet; the others go back to the farm when the lease ends."""
        self._joining.close()

    def _release_lost(self, lost: Mapping[Member, str]) -> list[int]:
        """End the lost workers, or set them aside; return the failures of each to be replaced."""
        failure_counts: list[int] = []
        for number, member in enumerate(self.members):
            if member not in lost:
                continue
            count = member.failures + 1
            log.warning(
                "worker %d (%s) failed, %d time%s since the last checkpoint: %s",
                number + 1, member, count, "s" if count > 1 else "", lost[member],
            )  # fmt: skip
            self._starter.kill(member)
            if count <= self._cluster.config.retries:
                failure_counts.append(count)
            else:
                log.warning("worker %d is set aside", number + 1)
                self._joining.lower_target()
        return failure_counts
