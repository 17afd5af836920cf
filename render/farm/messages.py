"""What conductor and workers tell each other: small and plain, so that whoever reads it needs neither JAX nor pixels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from render.geometry import Block, Gathering, Rect

#: The rectangles that workers at one place borrow of an owner, by the borrower's number.
Loan = Mapping[int, Sequence[Rect]]


@dataclass(frozen=True)
class Assignment:
    """What a worker has to do at one octave: its block as worker `number`, how the block's margin is put together, and what
    it lends to workers at each of the places that borrow of it. `directory` is for scratch files, None for none.
    """

    number: int
    octave: int
    block: Block
    margin: Gathering
    loans: tuple[Loan, ...]
    divisors: tuple[float, ...]
    directory: Path | None = None


class TileSum(NamedTuple):
    """A tile's share of the canvas' sum of absolute gradients."""

    tile: int
    total: float


class Ascended(NamedTuple):
    """What some tiles came to, and how long they took."""

    sums: tuple[TileSum, ...]
    seconds: float


@dataclass(frozen=True)
class Facts:
    """A worker's process and the machine that it runs on; memory in bytes, `kernels_made` counts what it compiles for."""

    host: str
    pid: int
    device: str
    platform: str
    host_bytes: int
    device_bytes: int
    held_bytes: int
    kernels_made: int

    @property
    def shares_memory(self) -> bool:
        """Whether kernels run in the host's memory."""
        return self.platform == "cpu"
