"""Pool of Ray workers that jobs lease."""

from __future__ import annotations

import threading
from collections import Counter, deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import ray

from render.config.schema import FarmConfig
from render.errors import UserError
from render.farm.executors import Reference
from render.farm.ray.actors import Member
from render.farm.ray.executor import RayExecutor
from render.farm.ray.farm_start import start_workers
from render.farm.ray.placement import Placement
from render.farm.ray.ray_cluster import RayCluster
from render.farm.ray.starter import WorkerStarter

#: Smallest object store that Ray starts with, bytes.
_MIN_STORE_BYTES = 100_000_000


class RayFarm:
    """Pool of workers that jobs lease, one job after the other or several at once."""

    def __init__(
        self,
        config: FarmConfig,
        *,
        threads: int,
        store_bytes: int = _MIN_STORE_BYTES,
        check: Callable[[], None] = lambda: None,
        say: Callable[[str], None] = lambda _line: None,
    ) -> None:
        """Start Ray on this machine, or join the cluster at `config.address`, and start the workers.

        Args:
            config: The farm's settings.
            threads: Threads of a kernel that runs on a CPU.
            store_bytes: Bytes that Ray may hold at once on this machine.
            check: Called while waiting; may raise.
            say: Called with progress messages for users while waiting.

        Raises:
            UserError: There is no such cluster, or it has no room for the workers.
        """
        self._idle: list[Member] = []
        self._leased_count = 0
        self._turns: deque[object] = deque()
        self._changed = threading.Condition()
        self._cluster = RayCluster(config, max(_MIN_STORE_BYTES, store_bytes), check, say)
        try:
            self._starter = WorkerStarter(self._cluster, Placement(self._cluster), threads)
            self._idle = start_workers(self._starter, say)
            self._cluster.remember_processes()
            self._workers_per_machine = max(Counter(member.node for member in self._idle).values())
        except BaseException:
            self.close()
            raise

    @property
    def size(self) -> int:
        """Number of workers, leased or not."""
        return len(self._idle) + self._leased_count

    @property
    def workers_per_machine(self) -> int:
        """Largest number of workers on one machine when the farm was opened."""
        return self._workers_per_machine

    @contextmanager
    def lease(self, workers: int | None = None) -> Iterator[RayExecutor]:
        """Lease `workers` workers for one job, all by default.

        Jobs that ask while too few are free wait for their turn.

        A job gets fewer if earlier jobs lost some. Compiled kernels stay with the workers for the next job.
        """
        if workers is not None and workers > max(1, self.size):
            raise UserError(f"a job asks for {workers} workers and the farm has {self.size}: set a larger farm.workers")
        members = self._take_turn(workers)
        leased_count = len(members)
        executor = RayExecutor(self._starter, members)
        try:
            yield executor
        finally:
            executor.close()
            with self._changed:
                self._leased_count -= leased_count
                self._idle += executor.members
                self._changed.notify_all()

    def share(self, value: Any) -> Reference:
        """Send a value once to each node, for any number of leases."""
        return ray.put(value)

    def close(self) -> None:
        """End the workers, and stop Ray if this farm started it."""
        for member in self._idle:
            self._starter.kill(member)
        self._idle = []
        self._cluster.close()

    def _take_turn(self, workers: int | None) -> list[Member]:
        """Wait until it is this job's turn and enough workers are free; take and return them."""
        turn = object()
        with self._changed:
            self._turns.append(turn)
            try:
                while self._turns[0] is not turn or len(self._idle) < min(workers or self.size, self.size):
                    self._changed.wait(0.5)
                    self._cluster.check()
                if not self._idle:
                    # All workers were lost in earlier jobs.
                    self._idle = self._starter.recruit(workers or self._starter.placement.target_count())
                if not self._idle:
                    raise UserError("the farm has lost all its workers and no new one starts: run the job again")
                count = workers or len(self._idle)
                members, self._idle = self._idle[:count], self._idle[count:]
                self._leased_count += len(members)
                return members
            finally:
                self._turns.remove(turn)
                self._changed.notify_all()
