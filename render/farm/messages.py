"""Messages between conductor and workers: small, and readable without JAX and without pixels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from render.dreaming.objectives import KernelInputs
from render.dreaming.stage import Stage
from render.geometry.blocks import Block, Gathering
from render.geometry.geometry import Rect

#: The rectangles that workers at one place borrow from an owner, by the borrower's number.
Loan = Mapping[int, Sequence[Rect]]


@dataclass(frozen=True)
class Assignment:
    """Work of one worker at one octave.

    Attributes:
        number: The worker's number.
        octave: Index of the octave.
        block: The worker's block.
        margin: How the block's margin is put together.
        loans: For each place that borrows from this worker, the rectangles that it lends.
        stage: The octave's settings.
        given: The kernel's inputs for each of the stage's regions.
        directory: Directory of scratch files, or None to use none.
    """

    number: int
    octave: int
    block: Block
    margin: Gathering
    loans: tuple[Loan, ...]
    stage: Stage
    given: tuple[KernelInputs, ...]
    directory: Path | None = None


class TileSum(NamedTuple):
    """A tile's share of the sums over the canvas' gradient toward one region's objective: see `ascent.measure`."""

    tile: int
    region: int
    sums: tuple[float, ...]


class TileSums(NamedTuple):
    """A tile's share of other sums. The meaning of `number` depends on the caller."""

    tile: int
    number: int
    sums: NDArray[np.float64]


class Ascended(NamedTuple):
    """Sums of some tiles, and the seconds they took; `together` is how many the worker's devices compute at once."""

    sums: tuple[TileSum, ...]
    tiles: int
    seconds: float
    together: int = 1


@dataclass(frozen=True)
class Facts:
    """A worker's process and the machine that it runs on; memory in bytes, `kernels_made` counts compiled networks.

    `device_bytes` is the memory of the smallest of its `devices`, and `versions` are those of `versions.own_versions`.
    """

    host: str
    pid: int
    device: str
    platform: str
    host_bytes: int
    device_bytes: int
    held_bytes: int
    kernels_made: int
    devices: int = 1
    versions: Mapping[str, str] = field(default_factory=dict)

    @property
    def shares_memory(self) -> bool:
        """True if kernels run in the host's memory."""
        return self.platform == "cpu"
