"""Pool of Ray workers that jobs lease: on this machine, with a local Ray, or on a running cluster."""

from __future__ import annotations

import logging
import os
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import ray
from ray.exceptions import RayError, RayTaskError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from render.config.schema import FarmConfig
from render.errors import UserError
from render.farm.executors import Reference
from render.farm.notice import Warned
from render.farm.ray.actors import START, Actor, Demand, Member, alive_nodes, has_plugin, is_ready, what_there_is
from render.farm.ray.executor import RayExecutor
from render.farm.ray.node import RayNode
from render.farm.ray.notice_watch import Lookout
from render.farm.ray.startup import (
    cause_of_death,
    first_line,
    join,
    knock,
    large_pages,
)
from render.farm.ray.tpu_slices import SHAPES, multi_host_slice
from render.farm.versions import own_versions, refuse_mismatch
from render.planning.residence import ALLOCATED

log = logging.getLogger(__name__)

_SAY_EVERY = 30.0
_SMALLEST_STORE = 100_000_000


class RayFarm:
    """Pool of workers that jobs lease, one job after the other or several at once."""

    def __init__(
        self,
        config: FarmConfig,
        *,
        threads: int,
        store_bytes: int = _SMALLEST_STORE,
        check: Callable[[], None] = lambda: None,
        say: Callable[[str], None] = lambda _line: None,
    ) -> None:
        """Start Ray on this machine, or join the cluster at `config.address`, and take in the workers.

        Args:
            config: The farm's settings.
            threads: Threads of a kernel that runs on a CPU.
            store_bytes: Bytes that Ray may hold at once on this machine.
            check: Called while waiting; may raise.
            say: Called with progress messages for users while waiting.

        Raises:
            UserError: There is no such cluster, or it has no room for the workers.
        """
        self._config = config
        self._threads = threads
        self._interrupt = check
        self._say = say
        self._fixed = config.workers
        self._node: RayNode | None = None
        self._idle: list[Member] = []
        self._leased = 0
        self._turns: deque[object] = deque()
        self._lookout: Lookout | None = None
        self._changed = threading.Condition()
        if config.address not in (None, "auto"):
            knock(config.address)
        try:
            if config.address is None:
                self._node = RayNode.start(config, max(_SMALLEST_STORE, store_bytes), say)
            else:
                join(config.address)
                # A local Ray has no notices.
                self._lookout = Lookout() if config.notices else None
            self.demand = self._find_demand()
            self._idle = self._take_in()
            if self._node is not None:
                self._node.remember()
            #: Largest number of workers on one machine when the farm was opened.
            self.together = max(Counter(member.node for member in self._idle).values())
        except BaseException:
            self.close()
            raise

    @property
    def embedded(self) -> bool:
        """True if Ray runs on this machine for this farm alone."""
        return self._config.address is None

    @property
    def size(self) -> int:
        """Number of workers, leased or not."""
        return len(self._idle) + self._leased

    @contextmanager
    def lease(self, workers: int | None = None) -> Iterator[RayExecutor]:
        """Lease `workers` workers for one job, all by default; jobs that ask while too few are free wait for their turn.

        A job gets fewer if earlier jobs lost some. Compiled kernels stay with the workers for the next job.
        """
        if workers is not None and workers > max(1, self.size):
            raise UserError(f"a job asks for {workers} workers and the farm has {self.size}: set a larger farm.workers")
        turn = object()
        with self._changed:
            self._turns.append(turn)
            try:
                while self._turns[0] is not turn or len(self._idle) < min(workers or self.size, self.size):
                    self._changed.wait(0.5)
                    self.check()
                if not self._idle:
                    # All workers were lost in earlier jobs.
                    self._idle = self.recruit(workers or self.wanted(), [], START)
                if not self._idle:
                    raise UserError("the farm has lost all its workers and no new one starts: run the job again")
                count = workers or len(self._idle)
                members, self._idle = self._idle[:count], self._idle[count:]
                self._leased += len(members)
            finally:
                self._turns.remove(turn)
                self._changed.notify_all()
        executor = RayExecutor(self, members, self.check)
        try:
            yield executor
        finally:
            executor.close()
            with self._changed:
                self._leased -= executor.leased
                self._idle += executor.members
                self._changed.notify_all()

    def share(self, value: Any) -> Reference:
        """Send a value once to each node, for any number of leases."""
        return ray.put(value)

    def close(self) -> None:
        """Release the workers, and stop Ray if this farm started it."""
        for member in self._idle:
            self.kill(member)
        self._idle = []
        if self._lookout is not None:
            self._lookout.close()
        if self._node is not None:
            self._node.close()
        else:
            ray.shutdown()

    def check(self) -> None:
        """Raise the errors of the farm's `check`, and `NodeLost`."""
        self._interrupt()
        self.check_node()

    def check_node(self) -> None:
        """Raise `NodeLost` once Ray's own processes on this machine have ended."""
        if self._node is not None:
            self._node.check()

    def recruit(self, count: int, taken: Sequence[Member], patience: float) -> list[Member]:
        """Return at most `count` new workers that start within `patience` seconds, besides those in `taken`."""
        members = self.begin(count, taken)
        deadline = time.monotonic() + patience
        while (waiting := [member for member in members if not is_ready(member)]) and time.monotonic() < deadline:
            ray.wait([member.ready for member in waiting], num_returns=1, timeout=1.0)
            self.check()
        for member in waiting:
            log.warning("a worker could not be started: did not start in time")
            self.kill(member)
        return [member for member in members if member not in waiting and self.has_started(member)]

    def begin(self, count: int, taken: Sequence[Member]) -> list[Member]:
        """Start at most `count` new workers, besides those in `taken`, and return them without waiting."""
        return [self._create(node) for node in self._places(count, taken)]

    def has_started(self, member: Member) -> bool:
        """Return True if a ready worker did start; release it if it failed."""
        try:
            self._meet(member)
        except (RayError, UserError) as error:
            log.warning("a worker could not be started: %s", first_line(error))
            self.kill(member)
            return False
        log.info("worker started: %s", member)
        return True

    def room(self) -> int:
        """Return how many workers the cluster's nodes have room for when otherwise idle."""
        return sum(self.demand.fits(node) for node in self._usable_nodes())

    @property
    def warned(self) -> dict[str, Warned]:
        """The nodes that are about to go, by their Ray names; none of them is used again."""
        return self._lookout.warned if self._lookout is not None else {}

    def _usable_nodes(self) -> list[dict[str, Any]]:
        going = self.warned
        return [node for node in alive_nodes() if node["NodeID"] not in going]

    def wanted(self) -> int:
        """Return the target number of workers: the config's, or as many as there is room for."""
        return self._fixed or self.room()

    def kill(self, member: Member) -> None:
        """End a worker for good."""
        # A lost node's workers are gone, and Ray cannot answer.
        if self._node is None or not self._node.is_lost:
            ray.kill(member.handle)

    @property
    def fixed(self) -> bool:
        """True if the config sets the number of workers."""
        return self._config.workers is not None

    @property
    def timeout(self) -> float:
        """Longest wait for room for workers when there are none, s."""
        return self._config.timeout

    @property
    def retries(self) -> int:
        """Number of failures allowed to a worker between two checkpoints."""
        return self._config.retries

    @property
    def silence(self) -> float:
        """Time without any result from workers before they are checked, s."""
        return self._config.silence

    def _find_demand(self) -> Demand:
        worker = self._config.worker
        nodes = alive_nodes()
        gpus, resources = worker.num_gpus, dict(worker.resources)
        if gpus is None:
            gpus = 1.0 if has_plugin("cuda") and any(node["Resources"].get("GPU", 0) >= 1 for node in nodes) else 0.0
        if not gpus and not resources and has_plugin("tpu") and any("TPU" in node["Resources"] for node in nodes):
            resources = {"TPU": 1.0}
        cpus = worker.num_cpus
        if cpus is None and (self.embedded or gpus or resources or self._config.workers):
            cpus = 1.0
        return Demand(cpus, gpus, resources)

    def _take_in(self) -> list[Member]:
        """Return the workers that the config asks for. Raise `UserError` with the reason if they cannot be had."""
        # On CPUs without a set number, a local Ray has one worker, whose kernels use all cores.
        if self.embedded and self._fixed is None and self.demand.platform == "cpu":
            self._fixed = 1
        if self.embedded and self.room() < max(1, self.wanted()):
            raise self._too_many(max(1, self.wanted()))
        members: list[Member] = []
        try:
            for attempt in range(self._config.retries + 1):
                # Count again each time: nodes come and go.
                self._await(members, max(1, self.wanted()))
                reason = self._part_with_the_dead(members)
                if reason is None:
                    break
                log.warning("a worker could not be started (attempt %d): %s", attempt + 1, reason)
            else:
                raise UserError(f"a worker cannot be started, after {self._config.retries} retries: {reason}")
        except BaseException:
            for member in members:
                self.kill(member)
            raise
        for member in members:
            log.info("worker started: %s", member)
        return members

    def _part_with_the_dead(self, members: list[Member]) -> str | None:
        """Remove the workers that died at their start from `members`; return the last one's reason, or None.

        Raise `UserError` if another start would end the same way: the device is missing, or versions differ.
        """
        reason = None
        for member in list(members):
            try:
                self._meet(member)
            except RayError as error:
                reason = cause_of_death(error)
                self.kill(member)
                members.remove(member)
        return reason

    def _meet(self, member: Member) -> None:
        """Record a started worker's node and facts."""
        try:
            member.node, facts = ray.get(member.ready)
        except RayTaskError as error:
            # Raise the worker's own error, without Ray's wrapper.
            raise (error.cause if isinstance(error.cause, UserError) else error) from None
        # Workers of an older program report no versions.
        refuse_mismatch(own_versions(), getattr(facts, "versions", {}), facts.host)
        member.facts = facts
        if self._lookout is not None and member.node is not None:
            self._lookout.add(member.node)

    def _await(self, members: list[Member], wanted: int) -> None:
        """Fill `members` with `wanted` workers and return when all have started, or raise `UserError`."""
        start = last_message_at = time.monotonic()
        while True:
            if len(members) < wanted:
                self._refuse_slices()
                members += [self._create(node) for node in self._places(wanted - len(members), members)]
            waiting = [member for member in members if not is_ready(member)]
            if not waiting and len(members) >= wanted:
                return
            ray.wait([member.ready for member in waiting], timeout=1.0) if waiting else time.sleep(1.0)
            self.check()
            elapsed = time.monotonic() - start
            if elapsed > self._config.timeout and self.room() < wanted:
                raise self._too_many(wanted)
            if elapsed > self._config.timeout + START and not self._is_busy(len(waiting)):
                raise UserError(
                    f"{len(waiting)} of {wanted} workers did not start within {elapsed:.0f} s though the cluster has room: "
                    "look into Ray's logs on its nodes"
                )
            if time.monotonic() - last_message_at > _SAY_EVERY:
                last_message_at = time.monotonic()
                self._say(f"waiting for workers: {wanted - len(waiting)} of {wanted} have started; {what_there_is()}")

    def _too_many(self, wanted: int) -> UserError:
        where = "this machine" if self.embedded else f"the cluster at {self._config.address}"
        return UserError(
            f"{wanted} worker{'s' if wanted > 1 else ''} of {self.demand} cannot be had: {where} has {what_there_is()}, "
            f"room for {self.room()}; change farm.workers or farm.worker.{{num_gpus,num_cpus,resources}}"
        )

    def _refuse_slices(self) -> None:
        slice_text = multi_host_slice(alive_nodes()) if self.demand.platform == "tpu" else None
        if slice_text:
            raise UserError(f"{slice_text}, which a worker cannot use by itself: {SHAPES}")

    def _is_busy(self, missing: int) -> bool:
        """Return True if others use the resources that the missing workers need."""
        free: dict[str, float] = ray.available_resources()  # type: ignore[no-untyped-call]
        demands = {"GPU": self.demand.num_gpus, "CPU": self.demand.num_cpus or 1, **self.demand.resources}
        return any(free.get(name, 0) < amount * missing for name, amount in demands.items() if amount > 0)

    def _places(self, count: int, taken: Sequence[Member]) -> list[str | None]:
        """Return nodes for at most `count` new workers; None leaves the choice to Ray."""
        nodes = self._usable_nodes()
        if self.demand.num_cpus is None:
            used = {member.node for member in taken}
            return [node["NodeID"] for node in nodes if self.demand.fits(node) and node["NodeID"] not in used][:count]
        if not self._tempting():
            return [None] * count
        # Choose nodes here: Ray would use the node that goes, where the released workers made room.
        used_counts = Counter(member.node for member in taken)
        free = [node["NodeID"] for node in nodes for _ in range(self.demand.fits(node) - used_counts[node["NodeID"]])]
        return free[:count]

    def _tempting(self) -> bool:
        """Return True if some nodes are about to go and Ray may still start workers there."""
        if self._lookout is None:
            return False
        unknown = self.warned.keys() - self._lookout.emptied
        return any(node["NodeID"] in unknown for node in alive_nodes())

    def _create(self, node: str | None) -> Member:
        cpus = self.demand.num_cpus
        if cpus is None:
            # If the node is gone, the worker does not start, which is noticed while waiting for it.
            cpus = next((n["Resources"]["CPU"] for n in alive_nodes() if n["NodeID"] == node), 1.0)
        share = min(1.0, self.demand.num_gpus or 1.0)
        environment = {
            "JAX_PLATFORMS": self.demand.platform,
            "NPROC": str(self._threads),
            # A worker has the accelerator, or its share, to itself; the user's own value has priority.
            "XLA_PYTHON_CLIENT_MEM_FRACTION": os.environ.get("XLA_PYTHON_CLIENT_MEM_FRACTION", f"{ALLOCATED * share:.2f}"),
        }
        strategy = NodeAffinitySchedulingStrategy(node, soft=False) if node else "SPREAD"
        handle = Actor.options(
            num_cpus=cpus,
            num_gpus=self.demand.num_gpus,
            resources=self.demand.resources or None,
            scheduling_strategy=strategy,
            # A local Ray's workers inherit this from the node.
            runtime_env=None if self.embedded else {"env_vars": large_pages()},
        ).remote(environment)
        return Member(handle, node, handle.start.remote())
