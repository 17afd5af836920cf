"""Quick start of a local Ray, with only the processes that it needs and no longer wait than necessary.

Ray has no options for this, so some of its functions are replaced while it starts. A Ray version that does not have these
functions, or calls them differently, starts as usual.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import psutil
import ray
from ray._private import node, services, utils

#: Longest wait for a node to register, and time between polls, s.
_REGISTER, _LOOK_EVERY = 90.0, 0.02
#: Starters of processes only for Ray's dashboard, its autoscaler, and printing workers' output.
_UNUSED = ("start_api_server", "start_monitor", "start_log_monitor")


@contextmanager
def bare() -> Iterator[None]:
    """Inside, `ray.init` starts Ray without dashboard, autoscaler and printed logs. Not safe for concurrent threads."""
    replacements: list[tuple[Any, str, Callable[[Any], Any]]] = [
        *((node.Node, name, lambda _own: _start_nothing) for name in _UNUSED),
        # With this error, Ray's agent, which is vital, does not load the dashboard's modules.
        (utils, "get_dashboard_dependency_error", lambda _own: _no_dashboard),
        (services, "get_node", _looking_often),
    ]
    originals = [(owner, name, getattr(owner, name), patch) for owner, name, patch in replacements if hasattr(owner, name)]
    for owner, name, original, patch in originals:
        setattr(owner, name, patch(original))
    try:
        yield
    finally:
        for owner, name, original, _ in originals:
            setattr(owner, name, original)


def _start_nothing(*_: Any, **__: Any) -> None:
    """Stand in for a function that starts a process."""


def _no_dashboard() -> ImportError:
    return ImportError("the dashboard is not wanted")


def _looking_often(own: Callable[[str, str], Any]) -> Callable[[str, str], Any]:
    """Return a `get_node` that first polls often until the node is up: Ray itself polls once a second."""

    def get_node(address: str, node_id: str) -> Any:
        state: Any = ray._private.state.GlobalState()  # type: ignore[no-untyped-call]
        options = services._get_gcs_client_options(address)  # type: ignore[no-untyped-call]
        state._initialize_global_state(options)
        deadline = time.monotonic() + _REGISTER
        while time.monotonic() < deadline and all(node_record["NodeID"] != node_id for node_record in state.node_table()):
            if not _is_coming():
                break
            time.sleep(_LOOK_EVERY)
        state.disconnect()
        return own(address, node_id)

    return get_node


def _is_coming() -> bool:
    """Return True if a raylet that this process has started is alive."""
    raylets = [child for child in psutil.Process().children() if child.name() == "raylet"]
    return any(raylet.status() != psutil.STATUS_ZOMBIE for raylet in raylets)
