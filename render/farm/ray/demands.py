"""Resources of the cluster's nodes, and those that a worker needs of a node."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import ray

from render.config.schema import FarmConfig
from render.system.accelerators import has_plugin

#: Resources that Ray lists for a node but users never request by name.
_INTERNAL = ("memory", "object_store_memory")


@dataclass(frozen=True)
class Demand:
    """Resources that a worker takes of a node.

    `num_cpus` None means all CPUs of a node, so that each node has one worker.
    """

    num_cpus: float | None
    num_gpus: float
    resources: dict[str, float] = field(default_factory=dict)

    def __str__(self) -> str:
        """Return the demand as users read it."""
        parts = [f"{self.num_gpus:g} GPU"] if self.num_gpus else []
        parts += ["a whole node's CPUs"] if self.num_cpus is None else [f"{self.num_cpus:g} CPU"]
        return ", ".join(parts + [f"{amount:g} {name}" for name, amount in self.resources.items()])

    @property
    def platform(self) -> str:
        """Platform for JAX. With it set, a device that is in use is an error and not a slow render."""
        if self.num_gpus:
            return "cuda"
        return "tpu" if "TPU" in self.resources else "cpu"

    def fits(self, node: dict[str, Any]) -> int:
        """Return how many workers an otherwise idle node has room for; `node` is an entry of `ray.nodes`."""
        available = node["Resources"]
        demands = {"GPU": self.num_gpus, **self.resources}
        if self.num_cpus is not None:
            demands["CPU"] = self.num_cpus
        elif available.get("CPU", 0) < 1:
            return 0
        counts = [int(available.get(name, 0) // amount) for name, amount in demands.items() if amount > 0]
        worker_count = min(counts) if counts else 1
        return min(worker_count, 1) if self.num_cpus is None and not self.num_gpus and not self.resources else worker_count

    def exceeds(self, free: dict[str, float], worker_count: int) -> bool:
        """Return True if the `free` resources of all nodes do not suffice for so many workers."""
        demands = {"GPU": self.num_gpus, "CPU": self.num_cpus or 1, **self.resources}
        return any(free.get(name, 0) < amount * worker_count for name, amount in demands.items() if amount > 0)


def find_demand(config: FarmConfig, nodes: Sequence[dict[str, Any]]) -> Demand:
    """Return what a worker needs of a node.

    This is what the config says, or else one accelerator where the nodes have any.
    """
    worker = config.worker
    gpus, resources = worker.num_gpus, dict(worker.resources)
    if gpus is None:
        gpus = 1.0 if has_plugin("cuda") and any(node["Resources"].get("GPU", 0) >= 1 for node in nodes) else 0.0
    if not gpus and not resources and has_plugin("tpu") and any("TPU" in node["Resources"] for node in nodes):
        resources = {"TPU": 1.0}
    cpus = worker.num_cpus
    if cpus is None and (config.address is None or gpus or resources or config.workers):
        cpus = 1.0
    return Demand(cpus, gpus, resources)


def alive_nodes() -> list[dict[str, Any]]:
    """Return the cluster's nodes as Ray describes them."""
    return [node for node in ray.nodes() if node["Alive"]]  # type: ignore[no-untyped-call]


def describe_nodes() -> str:
    """Return a text for users about the number of the cluster's nodes and their resources."""
    nodes = alive_nodes()
    totals: dict[str, float] = {}
    for node in nodes:
        for name, amount in node["Resources"].items():
            if name in ("CPU", "GPU", "TPU") or not (name.startswith("node:") or name in _INTERNAL):
                totals[name] = totals.get(name, 0) + amount
    totals.setdefault("GPU", 0)
    amounts = ", ".join(f"{amount:g} {name}" for name, amount in sorted(totals.items()))
    return f"{len(nodes)} node{'s' if len(nodes) != 1 else ''} with {amounts}"
