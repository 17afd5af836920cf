"""Guarded access to private parts of Ray, which another version may lack or define differently.

All of the program's use of `ray._private` goes through this module. Nothing here raises because of another Ray: without its
private parts, Ray starts more slowly, and the end of a process or a node is noticed later. The log and `differing_parts`
tell which parts differ.
"""

from __future__ import annotations

import importlib
import inspect
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from subprocess import Popen
from typing import Any

import ray

log = logging.getLogger(__name__)

#: Paths of the parts that this Ray lacks, or that differ, as far as they were needed.
_differing: set[str] = set()


@dataclass(frozen=True)
class PrivatePart:
    """A private function or object of Ray, with the module or class that holds it."""

    owner: Any
    name: str
    value: Any

    def replace(self, value: Any) -> bool:
        """Put another value in its place; return False if Ray does not allow that."""
        try:
            setattr(self.owner, self.name, value)
        except Exception as error:
            note_difference(self.name, error)
            return False
        return True


def find_private(path: str, parameters: Sequence[str] | None = None) -> PrivatePart | None:
    """Return a private part of Ray, or None, with a line in the log, if this Ray does not have it.

    Args:
        path: Module and name below `ray._private`, such as `node.Node.start_monitor`.
        parameters: Names of all parameters, in order, of a function that will be replaced; None accepts any object.
    """
    module, *owners, name = path.split(".")
    try:
        owner: Any = importlib.import_module(f"ray._private.{module}")
        for attribute in owners:
            owner = getattr(owner, attribute)
        value = inspect.getattr_static(owner, name) if parameters is not None else getattr(owner, name)
        if parameters is not None:
            _check_function(value, parameters)
    except Exception as error:
        # Another Ray may raise anything when its parts are imported or inspected.
        note_difference(path, error)
        return None
    return PrivatePart(owner, name, value)


def note_difference(path: str, error: Exception) -> None:
    """Remember and log, once, that a private part of Ray cannot be used.

    Args:
        path: Name of the part below `ray._private`.
        error: What was raised.
    """
    if path not in _differing:
        _differing.add(path)
        log.info("ray._private.%s of Ray %s cannot be used (%s: %s)", path, ray.__version__, type(error).__name__, error)


def differing_parts() -> list[str]:
    """Return the private parts that this Ray lacks, or that differ, as far as they were needed."""
    return sorted(_differing)


def vital_processes(names: Mapping[str, str]) -> dict[str, Popen[bytes]]:
    """Return processes of the local Ray that this process started.

    Those that cannot be found are left out.

    Args:
        names: For each of Ray's names of its processes, the key of the result.
    """
    node = find_private("worker._global_node")
    processes: dict[str, Popen[bytes]] = {}
    if node is None:
        return processes
    for name, key in names.items():
        try:
            processes[key] = node.value.all_processes[name][0].process
        except Exception as error:
            note_difference(f"worker._global_node.all_processes[{name!r}]", error)
    return processes


def raylet_socket() -> str:
    """Return the path of the raylet's socket on this machine; empty if this Ray does not tell."""
    node = find_private("worker._global_node")
    try:
        return str(node.value.raylet_socket_name) if node and node.value.raylet_socket_name else ""
    except Exception as error:
        note_difference("worker._global_node.raylet_socket_name", error)
        return ""


def draining_nodes() -> dict[str, int]:
    """Return the nodes that Ray drains, each with its deadline.

    Deadlines are in milliseconds since the epoch, 0 if there is none.

    Without this part of Ray no node is reported, and a node's end comes without notice.
    """
    state = find_private("state.state.get_draining_nodes")
    return dict(state.value()) if state else {}


def forget_authentication() -> None:
    """Have Ray read again, from the environment as it is now, whether it needs a token, and the token.

    Ray keeps the first ones for the process. Without these parts of Ray, a process that has started a Ray of ours can join
    no cluster that has another token, and none without tokens: there its actors end before they start, because this
    process does not answer the cluster.
    """
    _call_private("authentication.authentication_token_setup.Config.initialize", lambda initialize: initialize(""))
    _call_private(
        "authentication.authentication_token_setup.AuthenticationTokenLoader.instance",
        lambda instance: instance().reset_cache(),
    )


def _call_private(path: str, call: Callable[[Any], None]) -> None:
    """Call a private function of Ray, if this Ray has it; note what differs."""
    part = find_private(path)
    if part is None:
        return
    try:
        call(part.value)
    except Exception as error:
        note_difference(path, error)


def log_worker_output() -> None:
    """Have Ray log the lines that it would print on standard output.

    It prints deaths of workers at length, despite its settings.
    """
    printer = find_private("worker.print_to_stdstream", ("data", "ignore_prefix"))
    if printer:
        printer.replace(_log_lines)


def _log_lines(data: Mapping[str, Any], ignore_prefix: bool) -> None:  # noqa: ARG001
    for line in data.get("lines", []):
        log.info("Ray says: %s", str(line).strip())


def _check_function(value: Any, parameters: Sequence[str]) -> None:
    """Raise TypeError unless `value` is a plain function with these parameters."""
    if not inspect.isfunction(value):
        raise TypeError(f"it is no plain function but a {type(value).__name__}")
    names = list(inspect.signature(value).parameters)
    if names != list(parameters):
        raise TypeError(f"its parameters are ({', '.join(names)}), not ({', '.join(parameters)})")
