"""Start, check and end of single workers."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence

import ray
from ray.exceptions import RayError, RayTaskError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from render.errors import UserError
from render.farm.ray.actors import MAX_START_S, Actor, Member
from render.farm.ray.failures import first_line
from render.farm.ray.placement import Placement
from render.farm.ray.ray_cluster import RayCluster
from render.farm.versions import own_versions, refuse_mismatch
from render.planning.residence import ALLOCATED
from render.system.large_pages import large_pages
from render.system.surroundings import determinism_flags, memory_share

log = logging.getLogger(__name__)


class WorkerStarter:
    """Starts workers where there is room, checks that they fit the driver, and ends them."""

    def __init__(self, cluster: RayCluster, placement: Placement, threads: int) -> None:
        """Store the cluster, the placement, and the number of threads of a kernel that runs on a CPU."""
        self.cluster = cluster
        self.placement = placement
        self._threads = threads

    def begin(self, count: int, members: Sequence[Member]) -> list[Member]:
        """Start at most `count` new workers besides `members`, and return them without waiting."""
        return [self._create(node) for node in self.placement.choose_nodes(count, members)]

    def recruit(self, count: int) -> list[Member]:
        """Return at most `count` new workers that start in time."""
        members = self.begin(count, [])
        deadline = time.monotonic() + MAX_START_S
        while (waiting := [member for member in members if not member.is_ready]) and time.monotonic() < deadline:
            ray.wait([member.ready for member in waiting], num_returns=1, timeout=1.0)
            self.cluster.check()
        for member in waiting:
            log.warning("a worker could not be started: did not start in time")
            self.kill(member)
        return [member for member in members if member not in waiting and self.has_started(member)]

    def has_started(self, member: Member) -> bool:
        """Return True if a ready worker did start; end it if it failed."""
        try:
            self.read_facts(member)
        except (RayError, UserError) as error:
            log.warning("a worker could not be started: %s", first_line(error))
            self.kill(member)
            return False
        log.info("worker started: %s", member)
        return True

    def read_facts(self, member: Member) -> None:
        """Record a ready worker's node and facts.

        Raises:
            UserError: Its device cannot be used, or its versions are not the driver's.
            RayError: It failed to start.
        """
        try:
            member.node, facts = ray.get(member.ready)
        except RayTaskError as error:
            # Raise the worker's own error, without Ray's wrapper.
            raise (error.cause if isinstance(error.cause, UserError) else error) from None
        # Workers of an older program report no versions.
        refuse_mismatch(own_versions(), getattr(facts, "versions", {}), facts.host)
        member.facts = facts
        if member.node is not None:
            self.cluster.watch_node(member.node)

    def kill(self, member: Member) -> None:
        """End a worker for good."""
        # A lost node's workers are gone, and Ray cannot answer.
        if not self.cluster.is_lost:
            ray.kill(member.handle)

    def _create(self, node: str | None) -> Member:
        demand = self.placement.demand
        share = min(1.0, demand.num_gpus or 1.0)
        environment = {
            "JAX_PLATFORMS": demand.platform,
            "NPROC": str(self._threads),
            # A worker has the accelerator, or its share, to itself; the user's own value has priority.
            **memory_share(ALLOCATED * share),
        }
        deterministic = self.cluster.config.worker.deterministic
        xla_flags = determinism_flags(deterministic) if demand.platform == "cuda" else ""
        handle = Actor.options(
            num_cpus=self.placement.cpus_on(node),
            num_gpus=demand.num_gpus,
            resources=demand.resources or None,
            scheduling_strategy=NodeAffinitySchedulingStrategy(node, soft=False) if node else "SPREAD",
            # A local Ray's workers inherit this from the node.
            runtime_env=None if self.cluster.is_local else {"env_vars": large_pages()},
        ).remote(environment, xla_flags)
        return Member(handle, node, handle.start.remote())
