"""What workers tell the conductor: small and plain, so that whoever reads it needs neither JAX nor pixels."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple


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
