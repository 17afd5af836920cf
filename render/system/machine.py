"""Resources of this machine: cores, memory, disk."""

from __future__ import annotations

import ctypes
import os
import shutil
from pathlib import Path

import psutil


def cores() -> int:
    """Return the number of CPU cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def host_memory() -> int:
    """Return the bytes of memory that this process may use.

    This is the lower limit of the machine and of its control group.
    """
    host = psutil.virtual_memory().total
    for limit in _group_limits():
        try:
            text = limit.read_text().strip()
        except OSError:
            continue
        host = min(host, int(text)) if text.isdigit() else host
    return host


def memory_maps() -> tuple[int, int] | None:
    """Return the number of memory maps of this process, and the most that Linux allows it; None on other systems.

    A process that reaches the limit can allocate nothing more, however much memory is free.
    """
    try:
        with Path("/proc/self/maps").open("rb") as maps:
            return sum(1 for _ in maps), int(Path("/proc/sys/vm/max_map_count").read_text())
    except OSError:
        return None


def trim_heap() -> None:
    """Return the free memory of this process' heap to the system, where its allocator is glibc's.

    What XLA frees after compiling lies between memory in use, and glibc keeps it: gigabytes after some dozen jobs.
    """
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None) if os.name == "posix" else None
    if trim is not None:
        trim(0)


def free_disk(path: Path) -> int:
    """Return the free bytes on the disk of `path`, which need not exist yet."""
    return shutil.disk_usage(nearest(path)).free


def same_disk(first: Path, second: Path) -> bool:
    """Return whether two paths, which need not exist yet, are on one file system."""
    return nearest(first).stat().st_dev == nearest(second).stat().st_dev


def nearest(path: Path) -> Path:
    """Return the path, or the closest directory above it that exists."""
    return next(ancestor for ancestor in (path, *path.absolute().parents) if ancestor.exists())


def _group_limits() -> list[Path]:
    """Return the files that may hold this process' memory limit, the root group's first.

    There are two versions of control groups, v1 and v2.
    """
    files = [Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory/memory.limit_in_bytes")]
    try:
        lines = Path("/proc/self/cgroup").read_text().splitlines()
    except OSError:
        return files
    for line in lines:
        _, controllers, group = line.split(":", 2)
        if controllers == "":
            files.append(Path("/sys/fs/cgroup") / group.lstrip("/") / "memory.max")
        elif "memory" in controllers.split(","):
            files.append(Path("/sys/fs/cgroup/memory") / group.lstrip("/") / "memory.limit_in_bytes")
    return files
