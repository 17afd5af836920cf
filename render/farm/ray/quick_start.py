"""A Ray of our own starts with no more than it needs, and is waited for no longer than it takes.

Ray has no options for what is done here: its own functions are exchanged while it starts. A Ray of another version, which
calls them otherwise, starts as it would anyway.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import psutil
import ray
from ray._private import node, services, utils

#: How long a node may take until it says that it is there, and how often to look, s.
_REGISTER, _LOOK_EVERY = 90.0, 0.02
#: Processes of Ray's that serve only its dashboard, its autoscaler, and the printing of what workers print.
_UNUSED = ("start_api_server", "start_monitor", "start_log_monitor")


@contextmanager
def bare() -> Iterator[None]:
    """Inside, `ray.init` starts a Ray without dashboard, autoscaler and printed logs. Not for several threads at once."""
    wanted: list[tuple[Any, str, Callable[[Any], Any]]] = [
        *((node.Node, name, lambda _own: _start_nothing) for name in _UNUSED),
        # What Ray asks before it lets its agent, which it cannot be without, load all that a dashboard can show.
        (utils, "get_dashboard_dependency_error", lambda _own: _no_dashboard),
        (services, "get_node", _looking_often),
    ]
    kept = [(owner, name, getattr(owner, name), made) for owner, name, made in wanted if hasattr(owner, name)]
    for owner, name, own, made in kept:
        setattr(owner, name, made(own))
    try:
        yield
    finally:
        for owner, name, own, _ in kept:
            setattr(owner, name, own)


def _start_nothing(*_: Any, **__: Any) -> None:
    """Stands in for what starts a process."""


def _no_dashboard() -> ImportError:
    return ImportError("the dashboard is not wanted")


def _looking_often(own: Callable[[str, str], Any]) -> Callable[[str, str], Any]:
    """Ray itself looks once a second whether its node has come up; this looks often, and leaves the rest to Ray."""

    def get_node(address: str, node_id: str) -> Any:
        known: Any = ray._private.state.GlobalState()  # type: ignore[no-untyped-call]
        options = services._get_gcs_client_options(address)  # type: ignore[no-untyped-call]
        known._initialize_global_state(options)
        deadline = time.monotonic() + _REGISTER
        while time.monotonic() < deadline and all(one["NodeID"] != node_id for one in known.node_table()):
            if not _is_coming():
                break
            time.sleep(_LOOK_EVERY)
        known.disconnect()
        return own(address, node_id)

    return get_node


def _is_coming() -> bool:
    """Whether a raylet that this process has started is alive."""
    raylets = [child for child in psutil.Process().children() if child.name() == "raylet"]
    return any(raylet.status() != psutil.STATUS_ZOMBIE for raylet in raylets)
