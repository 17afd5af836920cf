"""Versions that the driver and its workers must have in common: what is sent between them is plain Python objects."""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping
from functools import cache
from importlib.metadata import version

from render.errors import UserError
from render.system.version import __version__

_HOW = "install the same on both (the project's .constraints.txt pins all of it)"
#: How Ray words it when a process joins a cluster of another version, or of another Python.
_RAYS_OWN = re.compile(r"Ray: (?P<ray>\S+)\s+Python: (?P<python>\S+)")


@cache
def own_versions() -> Mapping[str, str]:
    """Of this process: the program, JAX (which is not imported for that), and Python up to its minor version."""
    return {"render": __version__, "jax": version("jax"), "python": "{}.{}".format(*sys.version_info)}


def refuse_mismatch(driver: Mapping[str, str], worker: Mapping[str, str], host: str) -> None:
    """Raises `UserError` that says both sides where a worker's versions are not the driver's."""
    differing = [name for name in driver if worker.get(name) != driver[name]]
    if not differing:
        return
    here = ", ".join(f"{name} {driver[name]}" for name in differing)
    there = ", ".join(f"{name} {worker.get(name, 'unknown')}" for name in differing)
    raise UserError(f"version mismatch between driver and cluster: {here} here, {there} on {host}; {_HOW}")


def rays_mismatch(error: BaseException) -> str | None:
    """What to tell of Ray's own complaint about versions, in a line; None where the error is another one."""
    found = [match.groupdict() for match in _RAYS_OWN.finditer(str(error))]
    if len(found) != 2 or "ersion mismatch" not in str(error):
        return None
    there, here = (", ".join(f"{name} {one[name]}" for name in ("ray", "python")) for one in found)
    return f"version mismatch between driver and cluster: {here} here, {there} there; {_HOW}"
