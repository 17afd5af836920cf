"""Interface of a point's job: a picture or a film, checked and planned, of which nothing has been started or written."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from render.errors import UserError
from render.farm.farms import Farm
from render.networks.weights import Loaded
from render.sweeps.rendering.point_queue import KernelKey


@dataclass(frozen=True)
class PointCost:
    """Cost of a point as it is planned.

    Attributes:
        size: (rows, columns) of its picture or frames, px.
        megapixels: Window area to dream.
        teraflops: Work in 10^12 operations.
        max_tiles: Largest number of tiles of an octave.
        uses_scratch: True if its canvas does not fit into memory.
        disk_bytes: Bytes that it needs on disk.
        kernels: The compiled kernels that it needs; none if it dreams nothing.
    """

    size: tuple[int, int]
    megapixels: float
    teraflops: float
    max_tiles: int
    uses_scratch: bool
    disk_bytes: int
    kernels: frozenset[KernelKey]


@dataclass(frozen=True)
class PointState:
    """State of a point in its run directory.

    Attributes:
        is_done: True if all its files exist.
        is_begun: True if there is an unfinished run to resume.
        seconds: Time that it took, if it is done.
    """

    is_done: bool = False
    is_begun: bool = False
    seconds: float = 0.0


class PointJob(Protocol):
    """Job of a point. Its config names its run directory before anything but `identity` and `cost` is used."""

    @property
    def identity(self) -> Sequence[object]:
        """Facts, as JSON has them, that are equal for jobs which give the same picture or film."""

    @property
    def cost(self) -> PointCost:
        """Planned cost."""

    def state_in(self, directory: Path) -> PointState:
        """Return the state of this job in a run directory.

        Raises:
            UserError: The directory holds something else, or cannot be written to.
        """

    def compile(self, farm: Farm, loaded: Loaded | None) -> None:
        """Compile all kernels on the first worker, or load them from the cache.

        Args:
            farm: The workers.
            loaded: The weights; None for a job that dreams nothing.
        """

    def render(self, farm: Farm, loaded: Loaded | None, thumbnail_side: int, check: Callable[[], None]) -> float:
        """Render what is missing of picture or film, and its thumbnails; return the window megapixels that it dreamed.

        Args:
            farm: The workers, all of which are used.
            loaded: The weights; None for a job that dreams nothing.
            thumbnail_side: Longest side of thumbnails, px.
            check: Raises KeyboardInterrupt on a request to stop.

        Raises:
            RenderError: The job cannot work.
            KeyboardInterrupt: It was stopped; the same job goes on from what is saved.
        """

    def seconds_per_teraflop(self) -> float | None:
        """Measure the seconds that 10^12 operations of its kernels take in this process; None if it dreams nothing."""

    def store_bytes(self) -> int:
        """Return the bytes that Ray stores at once for it, on all workers together."""


def unusable_directory(error: UserError, directory: Path) -> UserError:
    """Return the error for a point's directory that cannot be used, with a remedy for sweeps."""
    problem = str(error).rpartition(": ")[0]
    return UserError(f"{problem}: move {directory} away, or choose another sweep.dir")
