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
from render.farm.peers.group import Team
from render.farm.pixel_sources import SourceChange
from render.geometry.blocks import Block, Gathering
from render.geometry.geometry import Rect
from render.planning.plan import Octave

#: Matrices of textures, by the number of the term in its objective: see `Texture.ascent_matrix`.
TermMatrices = Mapping[int, NDArray[np.float32]]

#: The rectangles that others borrow from an owner, by the borrower's number.
Loans = Mapping[int, Sequence[Rect]]


@dataclass(frozen=True)
class Assignment:
    """Work of one worker at one octave.

    Attributes:
        number: The worker's number.
        octave: Index of the octave.
        block: The worker's block.
        margin: How the block's margin is put together.
        loans: The rectangles that this worker lends for the margins of others.
        stage: The octave's settings.
        kernel_inputs: The kernel's inputs for each of the stage's regions.
        directory: Directory of scratch files, or None to use none.
        source: Change of the job's source for this run; None dreams on the source itself.
    """

    number: int
    octave: int
    block: Block
    margin: Gathering
    loans: Loans
    stage: Stage
    kernel_inputs: tuple[KernelInputs, ...]
    directory: Path | None = None
    source: SourceChange | None = None


@dataclass(frozen=True)
class StepOrders:
    """Steps that a worker takes in time with the others.

    Attributes:
        team: Its peers.
        octave: The octave.
        seed: Seed of the jitter.
        first: Number of steps that the canvas has behind it.
        stop: Number of steps after which the workers stop.
        ring: Pieces that the gradient's filter needs around the block.
        ring_loans: The rectangles of its gradient that this worker lends for the rings of others.
    """

    team: Team
    octave: Octave
    seed: int
    first: int
    stop: int
    ring: Gathering
    ring_loans: Loans


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


class ProgramTimes(NamedTuple):
    """Costs of a process' compiled programs. Runs record the fields by these names.

    Attributes:
        loaded: Number of programs loaded from our own files, without tracing.
        traced: Number of programs traced, which XLA then compiled or JAX found in its cache.
        compiled: Number of programs that XLA compiled.
        seconds: Seconds that all of it took.
        waited: Seconds of it for which the work had to wait; the rest passed beside other work.
    """

    loaded: int = 0
    traced: int = 0
    compiled: int = 0
    seconds: float = 0.0
    waited: float = 0.0

    def since(self, earlier: ProgramTimes) -> ProgramTimes:
        """Return what was added since an earlier count."""
        return ProgramTimes(
            self.loaded - earlier.loaded,
            self.traced - earlier.traced,
            self.compiled - earlier.compiled,
            self.seconds - earlier.seconds,
            self.waited - earlier.waited,
        )


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
