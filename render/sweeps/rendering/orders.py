"""Messages between a sweep and its workers: a point to render, and its outcome."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from render.config.schema import Config, FarmConfig, WorkerConfig

#: Key of a job's weights: the model's name and its file.
WeightsKey = tuple[str, str | None]


def weights_key(config: Config) -> WeightsKey:
    """Return the key of a job's weights."""
    return config.model.name, config.model.weights


@dataclass(frozen=True)
class RenderOrder:
    """Order to render a point.

    Attributes:
        working_directory: Directory of the worker's process, to which paths are relative.
        config: The point's config, which names a run directory.
        thumbnail_side: Longest side of the thumbnail, px.
        threads: Number of threads of the worker's process.
        memory_bytes: Memory that the worker may use.
        stop_file: Once it exists, the worker saves its canvas and stops.
    """

    working_directory: Path
    config: Config
    thumbnail_side: int
    threads: int
    memory_bytes: int
    stop_file: Path

    @property
    def inline_config(self) -> Config:
        """Config for a job that runs in this process alone."""
        worker = WorkerConfig(threads=self.threads, memory_gb=self.memory_bytes / 1e9)
        return replace(self.config, farm=FarmConfig(executor="inline", workers=1, worker=worker), quiet=True)


@dataclass(frozen=True)
class PointOutcome:
    """Outcome of one attempt at a point.

    Attributes:
        status: How it ended.
        seconds: Total time in the worker.
        reason: Why it failed; else empty.
        may_retry: True if a retry after a failure might succeed.
        megapixels: Window area that was dreamed.
        peak_bytes: Peak memory of the process so far.
        compiled: Number of kernels that the process has compiled so far because the cache on disk lacked them.
    """

    status: Literal["done", "failed", "interrupted"]
    seconds: float
    reason: str = ""
    may_retry: bool = False
    megapixels: float = 0.0
    peak_bytes: int = 0
    compiled: int = 0
