"""Watch for machines that are about to go: reports of Ray, and of an actor on each node."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from typing import Any

import ray
from ray.exceptions import RayError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from render.farm.executors import Reference
from render.farm.notice import Warned
from render.farm.ray.cloud_metadata import find_service
from render.farm.ray.private_api import draining_nodes

log = logging.getLogger(__name__)

#: Time between reads of Ray's list, and between requests of a watcher, s.
_READ_PERIOD_S, _REQUEST_PERIOD_S = 1.0, 5.0
#: Longest call of a watcher without a notice, and longest wait for the thread on closing, s.
_MAX_WATCH_S, _MAX_CLOSING_S = 60.0, 5.0


class Watcher:
    """Ray actor that asks the metadata service of its machine. It takes no CPU and never imports JAX."""

    def __init__(self) -> None:
        """Find the service of this machine's cloud."""
        self._service = find_service()

    def watch(self, seconds: float) -> tuple[bool, Warned | None]:
        """Wait for the first notice, for at most `seconds`.

        Return whether the machine has a metadata service, and the notice or None.
        """
        deadline = time.monotonic() + seconds
        while self._service is not None and time.monotonic() < deadline:
            try:
                warned = self._service.read_warning()
            except (OSError, ValueError):
                # A service may be unavailable for a moment.
                warned = None
            if warned is not None:
                return True, warned
            time.sleep(_REQUEST_PERIOD_S)
        return self._service is not None, None


_Actor: Any = ray.remote(num_cpus=0, max_restarts=0, max_task_retries=0)(Watcher)


def read_draining() -> dict[str, Warned]:
    """Return the nodes that Ray is draining.

    The autoscaler drains nodes, `ray drain-node` does, and a node that is told to stop.
    """
    return {node: Warned("Ray is emptying its node", at / 1000 if at else None) for node, at in draining_nodes().items()}


class NoticeWatch:
    """Thread that keeps a list of the nodes that are about to go, so that readers never wait."""

    def __init__(self, read: Callable[[], dict[str, Warned]] = read_draining) -> None:
        """Start the thread. `read` returns the nodes that Ray drains, by their IDs."""
        self._read = read
        self._lock = threading.Lock()
        self._leaving: dict[str, Warned] = {}
        self._draining: dict[str, Warned] = {}
        self._added: set[str] = set()
        self._watchers: dict[str, tuple[Any, Reference]] = {}
        self._closing = threading.Event()
        self._failed = False
        self._try(self._read_once)
        self._thread = threading.Thread(target=self._run, name="notices", daemon=True)
        self._thread.start()

    def add(self, node: str) -> None:
        """Watch this node, too, from now on."""
        with self._lock:
            self._added.add(node)

    @property
    def leaving_nodes(self) -> dict[str, Warned]:
        """The nodes that are about to go, by their IDs. A node is never removed from this list."""
        with self._lock:
            return dict(self._leaving)

    @property
    def draining_nodes(self) -> set[str]:
        """The nodes that Ray drains, on which it starts nothing any more."""
        with self._lock:
            return set(self._draining)

    def close(self) -> None:
        """End the thread and the watchers."""
        self._closing.set()
        self._thread.join(_MAX_CLOSING_S)
        for actor, _ in self._watchers.values():
            ray.kill(actor)
        self._watchers = {}

    def _run(self) -> None:
        while not self._closing.wait(_READ_PERIOD_S):
            self._try(self._read_once)
            self._try(self._tend_watchers)

    def _try(self, step: Callable[[], None]) -> None:
        """Run a step and log the first error of all steps only.

        Without notices a render goes on, but loses more with a node.
        """
        try:
            step()
        except Exception as error:
            if not self._failed:
                log.warning("cannot watch for nodes that are about to go (%s: %s)", type(error).__name__, error)
            self._failed = True

    def _read_once(self) -> None:
        draining = self._read()
        with self._lock:
            self._draining = draining
            # The first warning stays: one from a cloud is more exact.
            self._leaving = draining | self._leaving

    def _tend_watchers(self) -> None:
        with self._lock:
            new_nodes = self._added - self._watchers.keys() - self._leaving.keys()
            leaving_nodes = self._leaving.keys() & self._watchers.keys()
        for node in leaving_nodes:
            # A node can be drained only without its watcher.
            ray.kill(self._watchers.pop(node)[0])
        for node in new_nodes:
            actor = _Actor.options(scheduling_strategy=NodeAffinitySchedulingStrategy(node, soft=False)).remote()
            self._watchers[node] = actor, actor.watch.remote(_MAX_WATCH_S)
        pending = {reference: node for node, (_, reference) in self._watchers.items()}
        ready = ray.wait(list(pending), num_returns=len(pending), timeout=0)[0] if pending else []
        for reference in ready:
            self._read_answer(pending[reference], reference)

    def _read_answer(self, node: str, reference: Reference) -> None:
        actor, _ = self._watchers[node]
        try:
            has_service, warned = ray.get(reference)
        except RayError:
            # Its node is gone, or it was ended: this is noticed elsewhere.
            has_service, warned = False, None
        if has_service and warned is None:
            self._watchers[node] = actor, actor.watch.remote(_MAX_WATCH_S)
            return
        ray.kill(actor)
        del self._watchers[node]
        with self._lock:
            self._added.discard(node)
            if warned is not None:
                self._leaving.setdefault(node, warned)
