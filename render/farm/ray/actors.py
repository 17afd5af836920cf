"""Workers as Ray actors, their demands, and the resources of the nodes."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import ray

from render.farm.executors import Reference
from render.farm.messages import WorkerFacts

#: How long a worker may take to start on a free machine, s.
START = 120.0
#: Resources that Ray lists for a node but users never request by name.
_INTERNAL = ("memory", "object_store_memory")


class WorkerActor:
    """Ray actor around a `WorkerProcess`, which imports JAX and is therefore imported only in the actor's process."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        """Set `environment` before JAX can read it, then make the `WorkerProcess`.

        A runtime environment of the actor would have the same effect, but then Ray would start two processes for each
        worker, one after the other.
        """
        os.environ.update(environment)
        from render.system.surroundings import settle_jax, settle_warnings

        settle_warnings()
        settle_jax()
        from render.farm.worker.process import WorkerProcess

        self._process = WorkerProcess()

    def call(self, method: str, *arguments: Any) -> Any:
        """See `WorkerProcess.call`."""
        return self._process.call(method, *arguments)

    def start(self) -> tuple[str, Any]:
        """Return the ID of this actor's node, and the result of `WorkerProcess.ping`."""
        return ray.get_runtime_context().get_node_id(), self._process.ping()

    def call_parts(self, method: str, *arguments: Any) -> Any:
        """Call a method that returns a list, so that Ray stores each part as an object of its own."""
        parts = self._process.call(method, *arguments)
        return parts[0] if len(parts) == 1 else tuple(parts)


@dataclass(frozen=True)
class Demand:
    """Resources that a worker takes of a node. `num_cpus` None means all CPUs of a node: one worker each."""

    num_cpus: float | None
    num_gpus: float
    resources: dict[str, float] = field(default_factory=dict)

    def __str__(self) -> str:
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
        """Return how many workers an otherwise idle node has room for."""
        available = node["Resources"]
        demands = {"GPU": self.num_gpus, **self.resources}
        if self.num_cpus is not None:
            demands["CPU"] = self.num_cpus
        elif available.get("CPU", 0) < 1:
            return 0
        counts = [int(available.get(name, 0) // amount) for name, amount in demands.items() if amount > 0]
        worker_count = min(counts) if counts else 1
        return min(worker_count, 1) if self.num_cpus is None and not self.num_gpus and not self.resources else worker_count


@dataclass(eq=False)
class Member:
    """A worker's actor; `ready` resolves once it has started, and `failures` counts since the last checkpoint."""

    handle: Any
    node: str | None
    ready: Reference
    facts: WorkerFacts | None = None
    failures: int = 0

    def __str__(self) -> str:
        if self.facts is None:
            return "not started"
        several = f"{self.facts.devices} x " if self.facts.devices > 1 else ""
        return f"pid {self.facts.pid} on {self.facts.host} ({several}{self.facts.device})"


#: Ray must not restart it: a new worker needs its block, and then all others get theirs again.
Actor: Any = ray.remote(max_restarts=0, max_task_retries=0)(WorkerActor)


def alive_nodes() -> list[dict[str, Any]]:
    """Return the cluster's nodes as Ray describes them."""
    return [node for node in ray.nodes() if node["Alive"]]  # type: ignore[no-untyped-call]


def what_there_is() -> str:
    """Return a text for users about the cluster's nodes and their resources."""
    nodes = alive_nodes()
    totals: dict[str, float] = {}
    for node in nodes:
        for name, amount in node["Resources"].items():
            if name in ("CPU", "GPU", "TPU") or not (name.startswith("node:") or name in _INTERNAL):
                totals[name] = totals.get(name, 0) + amount
    totals.setdefault("GPU", 0)
    listed = ", ".join(f"{amount:g} {name}" for name, amount in sorted(totals.items()))
    return f"{len(nodes)} node{'s' if len(nodes) != 1 else ''} with {listed}"


def is_ready(member: Member) -> bool:
    """Return True if the member's process has started, or failed to start."""
    return bool(ray.wait([member.ready], timeout=0)[0])


def has_plugin(platform: str) -> bool:
    """Return True if JAX is installed with support for `cuda` or `tpu`."""
    names = {"cuda": ("jax_cuda12_plugin", "jax_cuda13_plugin"), "tpu": ("libtpu",)}[platform]
    return any(importlib.util.find_spec(name) for name in names)
