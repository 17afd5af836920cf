"""Messages between conductor and workers: small, and readable without JAX and without pixels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from render.dreaming.exact_sums import ExactSums
from render.dreaming.objectives import KernelInputs
from render.dreaming.stage import Stage
from render.geometry.blocks import Block, Gathering
from render.geometry.geometry import Rect

#: Matrices of textures, by the number of the term in its objective: see `Texture.ascent_matrix`.
TermMatrices = Mapping[int, NDArray[np.float32]]

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
        kernel_inputs: The kernel's inputs for each of the stage's regions.
        directory: Directory of scratch files, or None to use none.
    """

    number: int
    octave: int
    block: Block
    margin: Gathering
    loans: tuple[Loan, ...]
    stage: Stage
    kernel_inputs: tuple[KernelInputs, ...]
    directory: Path | None = None


class GradientSums(NamedTuple):
    """A tile's share of the sums over the canvas' gradient toward one region's objective: see `ascent.measure`."""

    tile: int
    region: int
    sums: tuple[float, ...]


class TileSums(NamedTuple):
    """A tile's share of other sums. The meaning of `number` depends on the caller."""

    tile: int
    number: int
    sums: NDArray[np.float64]


class CanvasSums(NamedTuple):
    """Sums over all tiles of a worker that a region's textures need of a layer: see `gram.packed`."""

    region: int
    layer: str
    sums: ExactSums


def tile_number(sums: TileSums) -> int:
    """Return the number of the tile: a key to sort by, as arrays do not compare."""
    return sums.tile


class GradientReport(NamedTuple):
    """Result of computing the gradient of some tiles, which itself stays with the worker.

    Attributes:
        sums: Sums of every tile and region, in tile order.
        tiles: Number of tiles.
        seconds: Time that they took together.
        tiles_at_once: Number of tiles that the worker's devices compute at once.
    """

    sums: tuple[GradientSums, ...]
    tiles: int
    seconds: float
    tiles_at_once: int = 1


@dataclass(frozen=True)
class WorkerFacts:
    """A worker's process and the machine that it runs on. Runs record the fields by these names.

    Attributes:
        host: Name of the machine.
        pid: The process' ID.
        device: Model of its devices, such as `cpu` or `NVIDIA H200`.
        platform: JAX' name for their kind, such as `cpu` or `gpu`.
        host_bytes: Memory of the machine.
        device_bytes: Memory of the smallest of its devices.
        held_bytes: Memory that the process holds.
        kernels_made: Number of networks built in this process.
        devices: Number of devices.
        versions: Versions by name, as from `versions.own_versions`.
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
