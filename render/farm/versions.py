"""Versions that the driver and its workers must share, because they exchange plain Python objects."""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping
from functools import cache

from render.errors import UserError
from render.system.version import __version__, package_version

_REMEDY = "install the same on both (the project's .constraints.txt pins all of it)"
#: Ray's text when a process joins a cluster with another version of Ray or Python.
_RAY_VERSIONS = re.compile(r"Ray: (?P<ray>\S+)\s+Python: (?P<python>\S+)")


@cache
def own_versions() -> Mapping[str, str]:
    """Return this process' versions of the program, JAX (which is not imported) and Python up to its minor version."""
    return {"render": __version__, "jax": package_version("jax"), "python": "{}.{}".format(*sys.version_info)}


def refuse_mismatch(driver: Mapping[str, str], worker: Mapping[str, str], host: str) -> None:
    """Raise `UserError`, which names both sides, if a worker's versions differ from the driver's."""
    differing = [name for name in driver if worker.get(name) != driver[name]]
    if not differing:
        return
    driver_versions = ", ".join(f"{name} {driver[name]}" for name in differing)
    worker_versions = ", ".join(f"{name} {worker.get(name, 'unknown')}" for name in differing)
    raise UserError(
        f"version mismatch between driver and cluster: {driver_versions} here, {worker_versions} on {host}; {_REMEDY}"
    )


def rays_mismatch(error: BaseException) -> str | None:
    """Return a one-line message for Ray's own error about versions, or None if `error` is another one."""
    sides = [match.groupdict() for match in _RAY_VERSIONS.finditer(str(error))]
    if len(sides) != 2 or "ersion mismatch" not in str(error):
        return None
    cluster_versions, driver_versions = (", ".join(f"{name} {side[name]}" for name in ("ray", "python")) for side in sides)
    return f"version mismatch between driver and cluster: {driver_versions} here, {cluster_versions} there; {_REMEDY}"
