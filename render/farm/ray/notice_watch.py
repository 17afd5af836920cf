"""Looks out for machines that are about to go: what Ray says of its nodes, and what a watcher on each is told there."""

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

log = logging.getLogger(__name__)

#: Seconds between two looks at Ray's list, and between two questions of a watcher.
_LOOK_EVERY, _ASK_EVERY = 1.0, 5.0
#: How long a watcher watches before it answers that there was nothing, and how long closing waits for the thread, s.
_WATCH, _CLOSING = 60.0, 5.0


class Watcher:
    """A Ray actor that asks the metadata service of the machine it runs on. It takes no CPU and never imports JAX."""

    def __init__(self) -> None:
        self._service = find_service()

    def watch(self, seconds: float) -> tuple[bool, Warned | None]:
        """Returns at the first notice, else after `seconds`; and whether there is anybody here to give one."""
        deadline = time.monotonic() + seconds
        while self._service is not None and time.monotonic() < deadline:
            try:
                warned = self._service.warned()
            except (OSError, ValueError):
                # A service may be away for a moment.
                warned = None
            if warned is not None:
                return True, warned
            time.sleep(_ASK_EVERY)
        return self._service is not None, None


_Actor: Any = ray.remote(num_cpus=0, max_restarts=0, max_task_retries=0)(Watcher)


def draining() -> dict[str, Warned]:
    """The nodes that Ray is asked to empty: by its autoscaler, `ray drain-node`, or a node that was told to stop."""
    # There is no public way to ask; without this one, nothing is known before a node is gone.
    state = getattr(getattr(ray, "_private", None), "state", None)
    asked: Callable[[], dict[str, int]] | None = getattr(getattr(state, "state", None), "get_draining_nodes", None)
    if asked is None:
        return {}
    return {node: Warned("Ray is emptying its node", at / 1000 if at else None) for node, at in asked().items()}


class Lookout:
    """A thread that keeps a list of the nodes that are about to go, so that whoever asks is never kept waiting."""

    def __init__(self, look: Callable[[], dict[str, Warned]] = draining) -> None:
        self._look = look
        self._lock = threading.Lock()
        self._warned: dict[str, Warned] = {}
        self._draining: dict[str, Warned] = {}
        self._wanted: set[str] = set()
        self._watchers: dict[str, tuple[Any, Reference]] = {}
        self._closing = threading.Event()
        self._failed = False
        self._try(self._look_once)
        self._thread = threading.Thread(target=self._run, name="lookout", daemon=True)
        self._thread.start()

    def add(self, node: str) -> None:
        """From now on there is a watcher on this node, too."""
        with self._lock:
            self._wanted.add(node)

    @property
    def warned(self) -> dict[str, Warned]:
        """The nodes that are about to go, by their Ray names. Once told, a node is never taken off the list."""
        with self._lock:
            return dict(self._warned)

    @property
    def emptied(self) -> set[str]:
        """Those of them on which Ray itself starts nothing any more."""
        with self._lock:
            return set(self._draining)

    def close(self) -> None:
        """Ends the thread and the watchers."""
        self._closing.set()
        self._thread.join(_CLOSING)
        for actor, _ in self._watchers.values():
            ray.kill(actor)
        self._watchers = {}

    def _run(self) -> None:
        while not self._closing.wait(_LOOK_EVERY):
            self._try(self._look_once)
            self._try(self._tend_watchers)

    def _try(self, step: Callable[[], None]) -> None:
        """Without notices a render goes on; it only loses more when a node is lost."""
        try:
            step()
        except Exception as error:
            if not self._failed:
                log.warning("cannot look out for nodes that are about to go (%s: %s)", type(error).__name__, error)
            self._failed = True

    def _look_once(self) -> None:
        found = self._look()
        with self._lock:
            self._draining = found
            # The first word counts: where it comes from a cloud, it is the more exact.
            self._warned = found | self._warned

    def _tend_watchers(self) -> None:
        with self._lock:
            new = self._wanted - self._watchers.keys() - self._warned.keys()
            over = self._warned.keys() & self._watchers.keys()
        for node in over:
            # A node that is to be emptied is empty only without it.
            ray.kill(self._watchers.pop(node)[0])
        for node in new:
            actor = _Actor.options(scheduling_strategy=NodeAffinitySchedulingStrategy(node, soft=False)).remote()
            self._watchers[node] = actor, actor.watch.remote(_WATCH)
        pending = {reference: node for node, (_, reference) in self._watchers.items()}
        ready = ray.wait(list(pending), num_returns=len(pending), timeout=0)[0] if pending else []
        for reference in ready:
            self._hear(pending[reference], reference)

    def _hear(self, node: str, reference: Reference) -> None:
        actor, _ = self._watchers[node]
        try:
            served, warned = ray.get(reference)
        except RayError:
            # Its node is gone, or it was ended: others notice that.
            served, warned = False, None
        if served and warned is None:
            self._watchers[node] = actor, actor.watch.remote(_WATCH)
            return
        ray.kill(actor)
        del self._watchers[node]
        with self._lock:
            self._wanted.discard(node)
            if warned is not None:
                self._warned.setdefault(node, warned)
