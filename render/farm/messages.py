"""What conductor and workers tell each other: small and plain, so that whoever reads it needs neither JAX nor pixels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from render.dream.objectives import Given
from render.dream.stage import Stage
from render.geometry.geometry import Block, Gathering, Rect

#: The rectangles that workers at one place borrow of an owner, by the borrower's number.
Loan = Mapping[int, Sequence[Rect]]


@dataclass(frozen=True)
class Assignment:
    """What a worker has to do at one octave: its block as worker `number`, how the block's margin is put together, and what
    it lends to workers at each of the places that borrow of it. `given` is for the kernel, for each of the stage's regions.
    `directory` is for scratch files, None for none.
    """

    number: int
    octave: int
    block: Block
    margin: Gathering
    loans: tuple[Loan, ...]
    stage: Stage
    given: tuple[Given, ...]
    directory: Path | None = None


class TileSum(NamedTuple):
    """A tile's share of the sums over the canvas' gradient toward one region's objective: see `ascent.measure`."""

    tile: int
    region: int
    sums: tuple[float, ...]


class TileSums(NamedTuple):
    """A tile's share of other sums: what is meant by `number` depends on who asks."""

    tile: int
    number: int
    sums: NDArray[np.float64]


class Ascended(NamedTuple):
    """What some tiles came to, and how long they took; `together` is how many the worker's devices compute at once."""

    sums: tuple[TileSum, ...]
    tiles: int
    seconds: float
    together: int = 1


@dataclass(frozen=True)
class Facts:
    """A worker's process and the machine that it runs on; memory in bytes, `kernels_made` counts what it compiles for.

    `device_bytes` is that of one of its `devices`, the least, and `versions` are those of `versions.own_versions`.
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
        """Whether kernels run in the host's memory."""
        return self.platform == "cpu"
