"""Keys of compiled kernels, by which points that need the same ones are found."""

from __future__ import annotations

from collections.abc import Iterable

from render.job.resolve import ResolvedJob
from render.sweeps.rendering.orders import weights_key
from render.sweeps.rendering.point_queue import KernelKey


def kernel_keys(job: ResolvedJob, windows: Iterable[tuple[int, tuple[int, int], tuple[int, int]]]) -> frozenset[KernelKey]:
    """Return the keys of a job's kernels.

    Args:
        job: The job, whose schedule has the objectives.
        windows: For each kernel the number of its objective, and the (rows, columns) px of its window and core.
    """
    schedule, network = job.schedule, job.network
    architecture = network.model.architecture.truncated(schedule.layers)
    network_key = (weights_key(job.config), architecture.nodes[-1].name, network.precision)
    return frozenset((network_key, schedule.objectives[number].structure, *window) for number, *window in windows)
