"""What this machine has: cores, memory, disk."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import psutil


def cores() -> int:
    """CPU cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def host_memory() -> int:
    """Bytes of memory that this process may use: the machine's, or its control group's where that is less."""
    host = psutil.virtual_memory().total
    for limit in _group_limits():
        try:
            text = limit.read_text().strip()
        except OSError:
            continue
        host = min(host, int(text)) if text.isdigit() else host
    return host


def free_disk(path: Path) -> int:
    """Free bytes on the disk that holds `path` or will."""
    return shutil.disk_usage(nearest(path)).free


def same_disk(first: Path, second: Path) -> bool:
    """Whether two paths, there already or not, are on one file system."""
    return nearest(first).stat().st_dev == nearest(second).stat().st_dev


def nearest(path: Path) -> Path:
    """The path itself, or the closest directory above it that is there."""
    return next(place for place in (path, *path.absolute().parents) if place.exists())


def _group_limits() -> list[Path]:
    """The files that may hold this process' limit in control groups of either version, from the root's down."""
    found = [Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory/memory.limit_in_bytes")]
    try:
        lines = Path("/proc/self/cgroup").read_text().splitlines()
    except OSError:
        return found
    for line in lines:
        _, controllers, group = line.split(":", 2)
        if controllers == "":
            found.append(Path("/sys/fs/cgroup") / group.lstrip("/") / "memory.max")
        elif "memory" in controllers.split(","):
            found.append(Path("/sys/fs/cgroup/memory") / group.lstrip("/") / "memory.limit_in_bytes")
    return found
