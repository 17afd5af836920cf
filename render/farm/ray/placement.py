"""Placement of workers on the cluster's nodes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import ray

from render.errors import UserError
from render.farm.ray.actors import Member
from render.farm.ray.demands import alive_nodes, describe_nodes, find_demand
from render.farm.ray.ray_cluster import RayCluster
from render.farm.ray.tpu_slices import SHAPES, hidden_chips, multi_host_slice


class Placement:
    """Room for workers on the cluster's nodes, and the nodes on which new ones start."""

    def __init__(self, cluster: RayCluster) -> None:
        """Find out what a worker needs of a node."""
        self._cluster = cluster
        self.demand = find_demand(cluster.config, alive_nodes())
        # On CPUs without a set number, a local Ray has one worker, whose kernels use all cores.
        one_worker = cluster.is_local and self.demand.platform == "cpu"
        self._fixed_count = cluster.config.workers or (1 if one_worker else None)

    def room(self) -> int:
        """Return how many workers the nodes have room for when otherwise idle."""
        return sum(self.demand.fits(node) for node in self._cluster.usable_nodes())

    def target_count(self) -> int:
        """Return how many workers the farm should have.

        This is the config's number, or as many as there is room for.
        """
        return self._fixed_count or self.room()

    def choose_nodes(self, count: int, members: Sequence[Member]) -> list[str | None]:
        """Return node IDs for at most `count` workers besides `members`; None leaves the choice to Ray."""
        nodes = self._cluster.usable_nodes()
        if self.demand.num_cpus is None:
            used = {member.node for member in members}
            return [node["NodeID"] for node in nodes if self.demand.fits(node) and node["NodeID"] not in used][:count]
        if not self._cluster.may_use_leaving_nodes():
            return [None] * count
        # Choose nodes here: Ray would use the node that goes, where the released workers made room.
        used_counts = Counter(member.node for member in members)
        free = [node["NodeID"] for node in nodes for _ in range(self.demand.fits(node) - used_counts[node["NodeID"]])]
        return free[:count]

    def cpus_on(self, node: str | None) -> float:
        """Return the CPUs that a worker takes of a node."""
        if self.demand.num_cpus is not None:
            return self.demand.num_cpus
        # If the node is gone, the worker does not start, which is noticed while waiting for it.
        return next((n["Resources"]["CPU"] for n in alive_nodes() if n["NodeID"] == node), 1.0)

    def is_busy(self, worker_count: int) -> bool:
        """Return True if others use the resources that so many workers need."""
        free: dict[str, float] = ray.available_resources()  # type: ignore[no-untyped-call]
        return self.demand.exceeds(free, worker_count)

    def no_room_error(self, worker_count: int) -> UserError:
        """Return the error that there is no room for so many workers."""
        where = "this machine" if self._cluster.is_local else f"the cluster at {self._cluster.config.address}"
        return UserError(
            f"{worker_count} worker{'s' if worker_count > 1 else ''} of {self.demand} cannot be had: {where} has "
            f"{describe_nodes()}, room for {self.room()}; change farm.workers or "
            "farm.worker.{num_gpus,num_cpus,resources}"
        )

    def refuse_slices(self) -> None:
        """Raise `UserError` if the workers would run on a TPU slice of several hosts, or a host lacks chips."""
        hidden_text = hidden_chips(alive_nodes()) if self.demand.platform == "tpu" else None
        if hidden_text:
            raise UserError(
                f"{hidden_text}: restart that machine, or start Ray on it with all of them, "
                """as `ray start --resources='{"TPU": 8}'` does"""
            )
        slice_text = multi_host_slice(alive_nodes()) if self.demand.platform == "tpu" else None
        if slice_text:
            raise UserError(f"{slice_text}, which a worker cannot use by itself: {SHAPES}")
