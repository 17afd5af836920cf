"""Quick start of a local Ray: only the processes that a render needs, and frequent polls for the node.

Ray has no options for this, so some of its private functions are replaced while it starts. Each one is replaced only if
this Ray has it with the expected parameters; otherwise Ray starts as usual there, which takes longer.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import psutil

from render.farm.ray.private_api import PrivatePart, find_private, note_difference

#: Longest wait for the node to register, and time between polls, s.
_MAX_REGISTER_S, _POLL_S = 90.0, 0.02
#: Functions that start processes only for the dashboard, the autoscaler, printed output and remote clients, with their
#: parameters.
_UNUSED_STARTERS: Mapping[str, Sequence[str]] = {
    "node.Node.start_api_server": ("self", "include_dashboard", "raise_on_failure"),
    "node.Node.start_monitor": ("self",),
    "node.Node.start_log_monitor": ("self",),
    "node.Node.start_ray_client_server": ("self",),
}


@contextmanager
def quick_start(*, all_processes: bool = False) -> Iterator[None]:
    """Inside the context, have `ray.init` start a local Ray quickly. Not safe for concurrent threads.

    Args:
        all_processes: Start also the processes for dashboard, autoscaler and printed output, as Ray does by itself.
    """
    replaced: list[PrivatePart] = []

    def replace(path: str, parameters: Sequence[str], replacement: Callable[[Any], Any]) -> None:
        part = find_private(path, parameters)
        if part and part.replace(replacement(part.value)):
            replaced.append(part)

    try:
        if not all_processes:
            for path, parameters in _UNUSED_STARTERS.items():
                replace(path, parameters, lambda _start: _start_nothing)
            # With this error, Ray's agent, which is vital, does not load the dashboard's modules.
            replace("utils.get_dashboard_dependency_error", (), lambda _get_error: _dashboard_error)
        replace("services.get_node", ("gcs_address", "node_id"), _polling_often)
        yield
    finally:
        for part in replaced:
            part.replace(part.value)


def _start_nothing(*_: Any, **__: Any) -> None:
    """Stand in for a function that starts a process."""


def _dashboard_error() -> ImportError:
    """Stand in for the function that reports why the dashboard cannot be loaded."""
    return ImportError("the dashboard is not wanted")


def _polling_often(get_node: Callable[..., Any]) -> Callable[..., Any]:
    """Return a `get_node` that first waits until the node has registered.

    It looks often; Ray itself looks once a second.
    """

    def get_registered_node(gcs_address: str, node_id: str) -> Any:
        try:
            _await_registration(gcs_address)
        except Exception as error:
            # Another Ray may raise anything here; its own function follows anyway.
            note_difference("state.GlobalState", error)
        return get_node(gcs_address, node_id)

    return get_registered_node


def _await_registration(gcs_address: str) -> None:
    """Wait until the new cluster at `gcs_address` has a node, or until no node will come."""
    global_state, client_options = find_private("state.GlobalState"), find_private("services._get_gcs_client_options")
    if global_state is None or client_options is None:
        return
    state = global_state.value()
    state._initialize_global_state(client_options.value(gcs_address))
    try:
        deadline = time.monotonic() + _MAX_REGISTER_S
        while not state.node_table() and _has_raylet() and time.monotonic() < deadline:
            time.sleep(_POLL_S)
    finally:
        state.disconnect()


def _has_raylet() -> bool:
    """Return True if a raylet that this process has started is alive."""
    raylets = [child for child in psutil.Process().children() if child.name() == "raylet"]
    return any(raylet.status() != psutil.STATUS_ZOMBIE for raylet in raylets)
