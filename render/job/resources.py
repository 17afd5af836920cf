"""Memory and disk of the machines that a job runs on, and of Ray's object store."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import psutil

from render.farm.conductor import chunk_bytes_exchanged
from render.farm.messages import WorkerFacts
from render.geometry.blocks import deal_blocks
from render.geometry.geometry import BAND, PIXEL_BYTES
from render.job.resolve import ResolvedJob
from render.planning.plan import Machine, Plan
from render.system.machine import free_disk, host_memory, same_disk

#: Memory of a worker's process before it holds a canvas, and of Ray's own processes, measured, bytes.
_PROGRAM_BYTES, _RAY_BYTES = 450_000_000, 300_000_000
#: Strips of the canvas that Ray may hold for each worker, and the other bytes that it holds.
_STORED_STRIPS, _STORED_BYTES = 4, 150_000_000
#: Ray's object store is this much larger than what is known to lie in it.
_STORE_RESERVE = 1.2
#: Memory assumed for machines of a cluster before its workers exist, and free space for an object store, bytes.
_UNKNOWN_MEMORY, _UNLIMITED_DISK = 1 << 50, 1 << 62


def estimated_machine(job: ResolvedJob) -> Machine:
    """Return an estimate of the machines before workers exist.

    It is this machine; of a cluster, only the run directory's disk is known.
    """
    host_bytes = host_memory() if job.farm.address is None else _UNKNOWN_MEMORY
    return Machine(
        host_bytes=host_bytes,
        device_bytes=host_bytes,
        workers=job.workers,
        held_bytes=_PROGRAM_BYTES,
        shared_bytes=job.picture_bytes + _PROGRAM_BYTES + (_RAY_BYTES if job.farm.executor == "ray" else 0),
        disk_free=_disk_free(job),
        disk=str(job.directory.place),
        worker_bytes=_worker_limit(job),
        scratch_free=_scratch_free(job),
    )


def farm_machine(job: ResolvedJob, workers: Sequence[WorkerFacts]) -> Machine:
    """Return a machine with the minimum of what the workers report of theirs."""
    driver_bytes = psutil.Process().memory_info().rss
    is_inline = job.farm.executor == "inline"
    return Machine(
        host_bytes=min(worker.host_bytes for worker in workers),
        device_bytes=min(worker.device_bytes for worker in workers),
        shares_memory=any(worker.shares_memory for worker in workers),
        workers=max(Counter(worker.host for worker in workers).values()),
        held_bytes=0 if is_inline else max(worker.held_bytes for worker in workers),
        shared_bytes=driver_bytes if is_inline else driver_bytes + job.picture_bytes + _RAY_BYTES,
        devices=max(worker.devices for worker in workers),
        disk_free=_disk_free(job),
        disk=str(job.directory.place),
        worker_bytes=_worker_limit(job),
        scratch_free=_scratch_free(job),
    )


def _disk_free(job: ResolvedJob) -> int:
    return _UNLIMITED_DISK if job.directory.home.is_remote else free_disk(job.directory.path.absolute())


def _scratch_free(job: ResolvedJob) -> int | None:
    """Return the free bytes for blocks larger than memory; None if they lie on the run directory's disk."""
    shares_disk = not job.directory.home.is_remote and same_disk(job.scratch, job.directory.path.absolute())
    return None if shares_disk else free_disk(job.scratch)


def _worker_limit(job: ResolvedJob) -> int | None:
    """Return the bytes of memory that the config allows a worker, if it says so."""
    gigabytes = job.farm.worker.memory_gb
    return int(gigabytes * 1e9) if gigabytes else None


def store_bytes(job: ResolvedJob, plan: Plan) -> int:
    """Return the bytes that Ray holds at once on this machine.

    They are weights, source and masks, and pixels on their way between workers: strips of the canvas while octaves change,
    or parts of chunks for a checkpoint. What workers exchange in a step goes through connections of their own.
    """
    strip_bytes = job.workers * _STORED_STRIPS * PIXEL_BYTES * min(BAND, plan.final.grid.canvas.area)
    chunk_bytes = max(chunk_bytes_exchanged(deal_blocks(octave.grid, job.workers)) for octave in plan.octaves)
    return int(_STORE_RESERVE * (job.picture_bytes + _STORED_BYTES + max(strip_bytes, chunk_bytes)))
