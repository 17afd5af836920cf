"""Workers as Ray actors."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import ray

from render.farm.executors import Reference
from render.farm.messages import WorkerFacts

#: How long a worker may take to start on a free machine, s.
MAX_START_S = 120.0


#: Ray's group of the calls that are answered while another runs.
_SIGNS = "signs"


class WorkerActor:
    """Ray actor around a `WorkerProcess`.

    That imports JAX, so it is imported only in the actor's process.
    """

    def __init__(self, environment: Mapping[str, str], xla_flags: str = "") -> None:
        """Set `environment` and `xla_flags` before JAX can read them, then make the `WorkerProcess`.

        A runtime environment of the actor would have the same effect, but then Ray would start two processes for each
        worker, one after the other.
        """
        from render.farm.ray.tpu_slices import bound_visible_chips
        from render.system.surroundings import settle_jax, settle_warnings, with_xla_flags

        os.environ.update(environment)
        os.environ.update(with_xla_flags(xla_flags))

        settle_warnings()
        bound_visible_chips(os.environ)
        settle_jax()
        from render.farm.worker.process import WorkerProcess

        host: str = ray.util.get_node_ip_address()  # type: ignore[no-untyped-call]
        self._process = WorkerProcess(host=host)

    def call(self, method: str, *arguments: Any) -> Any:
        """See `WorkerProcess.call`."""
        return self._process.call(method, *arguments)

    @ray.method(concurrency_group=_SIGNS)
    def is_at_work(self) -> bool:
        """Return whether the worker computes something now, and waits for no other. Answers also during a call."""
        return self._process.is_at_work

    @ray.method(concurrency_group=_SIGNS)
    def give_up(self) -> None:
        """See `WorkerProcess.give_up`. Done also during a call."""
        self._process.give_up()

    def start(self) -> tuple[str, Any]:
        """Return the ID of this actor's node, and the result of `WorkerProcess.ping`."""
        return ray.get_runtime_context().get_node_id(), self._process.ping()


#: Ray must not restart it: a new worker needs its block, and then all others get theirs again.
_options: dict[str, Any] = {"max_restarts": 0, "max_task_retries": 0, "concurrency_groups": {_SIGNS: 1}}
Actor: Any = ray.remote(**_options)(WorkerActor)


@dataclass(eq=False)
class Member:
    """A worker of the farm, as the driver sees it.

    Attributes:
        handle: Ray's handle of the `WorkerActor`.
        node: ID of its node; None until it has started, if Ray chooses the node.
        ready: Reference that resolves once it has started, or failed to start.
        facts: The worker's facts; None until it has started.
        failures: Number of its failures since the last checkpoint.
    """

    handle: Any
    node: str | None
    ready: Reference
    facts: WorkerFacts | None = None
    failures: int = 0

    def __str__(self) -> str:
        """Return process, host and device, for the log."""
        if self.facts is None:
            return "not started"
        several = f"{self.facts.devices} x " if self.facts.devices > 1 else ""
        return f"pid {self.facts.pid} on {self.facts.host} ({several}{self.facts.device})"

    @property
    def is_ready(self) -> bool:
        """True if its process has started, or failed to start."""
        return bool(ray.wait([self.ready], timeout=0)[0])
