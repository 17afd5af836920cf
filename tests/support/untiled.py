"""The gradient of a whole canvas, two ways: plain `jax.grad` over one window, and the program's own tiles.

"Whole" is one window over the extended canvas, computed here on a canvas that NumPy padded: it shares neither windows,
margins, terms nor the compiled kernel with what it checks.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache, reduce

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from render.dreaming.ascent import statistic
from render.dreaming.exact_sums import ExactSums
from render.dreaming.gram import unpacked
from render.dreaming.kernel import Kernel
from render.dreaming.objectives import KernelInputs, Objective
from render.dreaming.picture_terms import Caricature, Guide
from render.dreaming.programs import Programs
from render.dreaming.resample import Pixels, resample_array
from render.dreaming.resident import write_rect, zeros
from render.dreaming.stage import Stage
from render.dreaming.term_base import Term
from render.dreaming.terms import Class, Direction, Energy, Neuron, Strongest
from render.dreaming.texture import Texture
from render.farm.messages import Assignment
from render.farm.worker.block import BlockArrays
from render.farm.worker.resident_block import ResidencyRule, ResidentBlock
from render.farm.worker.worker import Worker
from render.geometry.blocks import Gathering, deal_blocks, margin_pieces
from render.geometry.geometry import BOUNDARY_MODES, Axis, Grid, Rect, round_up
from render.networks.network import Network
from render.networks.weights import Loaded


@dataclass(frozen=True)
class Still:
    """A source that is one array at its own size."""

    pixels: Pixels
    sha256: str = ""
    nbytes: int = 0

    @property
    def size(self) -> tuple[int, int]:
        """(rows, columns) px."""
        return self.pixels.shape[0], self.pixels.shape[1]

    def at(self, shape: tuple[int, int], rect: Rect) -> Pixels:
        """Return a rectangle of the array; `shape` must be its own."""
        assert shape == self.size
        return self.pixels[slice(*rect.rows), slice(*rect.columns)]


@cache
def photo(height: int, width: int, name: str = "chelsea") -> Pixels:
    """Return a sample photo resampled to a size, (height, width, 3) float32, 0..255."""
    from render.config.schema import SourceConfig
    from render.source.photo import read_photo
    from render.source.source import sample_path

    return np.clip(resample_array(read_photo(sample_path(name), SourceConfig()), (height, width)), 0, 255)


def kernel_of(loaded: Loaded, *objectives: Objective) -> Kernel:
    """Return the kernel for some objectives, on all devices of this process."""
    layers = [layer for objective in objectives for layer in objective.layers]
    return Kernel(Programs(Network(loaded.architecture.truncated(layers), loaded.parameters)), objectives, loaded)


def make_grid(loaded: Loaded, objective: Objective, shape, tile: int, boundary: str, halo: int | None = None) -> Grid:
    """Return the tile grid for an objective, with an exact halo unless one is given."""
    layers = [loaded.architecture.layer(name) for name in objective.layers]
    stride = max(layer.stride for layer in layers)
    exact = round_up(max(layer.receptive_field for layer in layers) - 1, stride)
    rows, columns = (
        Axis(length, tile, exact if halo is None else halo, exact if mode == "wrap" else 32, stride, mode)
        for length, mode in zip(shape, BOUNDARY_MODES[boundary], strict=True)
    )
    return Grid(rows, columns)


def extended(grid: Grid, canvas: Pixels, jitter: tuple[int, int]) -> tuple[Pixels, tuple[int, int]]:
    """The extended canvas, and where the canvas begins in it."""
    before = [axis.fill + shift for axis, shift in zip((grid.rows, grid.columns), jitter, strict=True)]
    after = [
        extended - length - first
        for extended, length, first in zip(grid.extended_shape, canvas.shape, before, strict=False)
    ]
    pixels = np.pad(canvas, ((before[0], after[0]), (0, 0), (0, 0)), mode=grid.rows.mode)
    pixels = np.pad(pixels, ((0, 0), (before[1], after[1]), (0, 0)), mode=grid.columns.mode)
    return pixels, (before[0], before[1])


def centres(loaded: Loaded, layer: str, count: Sequence[int], before: tuple[int, int]) -> list[np.ndarray]:
    """Along each axis, the canvas pixel on which each activation's view is centred."""
    spans = loaded.architecture.layer(layer).axis_fields
    return [
        np.arange(size) * span.stride + (span.low + span.high) / 2 - first
        for size, span, first in zip(count, spans, before, strict=True)
    ]


def plain_value(term: Term, loaded: Loaded, activations, references, before, canvas) -> jax.Array:
    """Return a term's value on the extended canvas, without its weight, by the plain formula."""
    a = activations[term.layer]
    match term:
        case Energy():
            chosen = a[..., list(term.channels)] if term.channels else a
            measure = term.measure or ("mean" if term.channels else "square")
            return {"square": chosen**2, "mean": chosen, "l1": abs(chosen)}[measure].mean()
        case Neuron():
            nearest = []
            for axis, share, length, wraps in zip(
                centres(loaded, term.layer, a.shape[:2], before), term.at[::-1], canvas, references["wraps"], strict=True
            ):
                pixel = min(int(share * length), length - 1)
                copies = [pixel + turn * length for turn in range(-20, 21)] if wraps else [pixel]
                half = (axis[1] - axis[0]) / 2
                # Beyond the last view there is no copy.
                near = [copy for copy in copies if not wraps or axis[0] - half <= copy <= axis[-1] + half]
                nearest.append([np.abs(axis - copy).argmin() for copy in near])
            return sum(a[row, column, term.channel] for row in nearest[0] for column in nearest[1])
        case Strongest():
            # The choice is made on the source's own grid, without jitter: see `strongest_channels`.
            return a[..., list(references["chosen"][term])].mean()
        case Direction():
            v = np.asarray(term.vector) / np.linalg.norm(term.vector)
            dot = a @ v.astype(np.float32)
            return (dot * jnp.maximum(0.1, dot / jnp.sqrt((a**2).sum(-1) + 1e-12)) ** term.power).mean()
        case Class():
            weights = loaded.parameters[f"{loaded.architecture.classifier}/weight"]
            return (a.mean((0, 1)) * weights[term.number]).sum()
        case Guide():
            features = references["guide"][term].reshape(-1, a.shape[-1])
            return jnp.einsum("rcf,nf->rcn", a, features).max(-1).mean()
        case Caricature():
            b = references["activations"][term.layer]
            dot = (a * b).sum(-1)
            cosine = dot / jnp.sqrt((a**2).sum(-1) + 1e-12) / jnp.sqrt((b**2).sum(-1) + 1e-12)
            return (dot * jnp.maximum(0.1, cosine) ** term.power).mean()
        case Texture():
            target = references["textures"][term]
            axes = inside(loaded, term.layer, a.shape[:2], before, canvas)
            counted = jnp.asarray(np.outer(*axes), jnp.float32)
            gram = plain_gram(a, counted)
            if not any(references["wraps"]):
                return -((gram - target) ** 2).sum() / (target**2).sum()
            # On a torus every position counts once, but pulls on the pixels at either side of the seam: the positions of
            # the extended canvas have the gradient that their originals have.
            matrix = jax.lax.stop_gradient(-2 * (gram - target) / (target**2).sum() / counted.sum())
            pulls = np.outer(*(axis | wraps for axis, wraps in zip(axes, references["wraps"], strict=True)))
            return (((a @ matrix) * a).sum(-1) * pulls).sum()
        case _:
            raise AssertionError(term)


def inside(loaded: Loaded, layer: str, count: Sequence[int], before: tuple[int, int], canvas) -> list[np.ndarray]:
    """Along each axis, whether each activation's view is centred on the canvas."""
    return [
        (np.floor(axis) >= 0) & (np.floor(axis) < length)
        for axis, length in zip(centres(loaded, layer, count, before), canvas, strict=False)
    ]


def plain_gram(a: jax.Array, counted: jax.Array) -> jax.Array:
    """The mean over the counted positions of the products of every two channels."""
    return jnp.einsum("rcf,rcg,rc->fg", a, a, counted, precision="highest") / counted.sum()


def plain_target(loaded: Loaded, term: Texture, grid: Grid) -> np.ndarray:
    """The Gram matrix of a texture beside a canvas, from one array that is the whole picture."""
    network = Network(loaded.architecture.truncated([term.layer]), loaded.parameters)
    shape = term.shown_shape(grid.canvas.shape, loaded.architecture.layer(term.layer))
    shown = np.clip(resample_array(term.pixels, shape), 0, 255)
    alone = Grid(*(Axis(side, side, 0, 32, grid.rows.stride, "reflect") for side in shape))
    pixels, before = extended(alone, shown, (0, 0))
    a = network(jnp.asarray(pixels), [term.layer])[term.layer]
    axes = inside(loaded, term.layer, a.shape[:2], before, shape)
    return np.asarray(plain_gram(a, jnp.asarray(np.outer(*axes), jnp.float32)))


def strongest_channels(loaded: Loaded, term: Strongest, grid: Grid, picture: Pixels) -> tuple[int, ...]:
    """The channels with the largest (smallest) sum over the activations centred on the picture."""
    network = Network(loaded.architecture.truncated([term.layer]), loaded.parameters)
    pixels, before = extended(grid, picture, (0, 0))
    a = np.asarray(network(jnp.asarray(pixels), [term.layer])[term.layer], np.float64)
    rows, columns = inside(loaded, term.layer, a.shape[:2], before, picture.shape[:2])
    sums = a[rows][:, columns].sum((0, 1))
    order = np.argsort(sums if term.weakest else -sums, kind="stable")
    fire = [channel for channel in order if sums[channel] > 0]
    return tuple(int(channel) for channel in (fire if term.weakest else order)[: term.count])


def untiled_gradient(
    loaded: Loaded, objective: Objective, grid: Grid, canvas: Pixels, jitter, source: Pixels | None = None
) -> Pixels:
    """Gradient of the objective over the whole extended canvas, cut to the canvas."""
    network = Network(loaded.architecture.truncated(objective.layers), loaded.parameters)
    extended_canvas, before = extended(grid, canvas, jitter)
    references: dict = {
        "chosen": {},
        "guide": {},
        "textures": {},
        "wraps": [axis.mode == "wrap" for axis in (grid.rows, grid.columns)],
    }
    if source is not None:
        shown, _ = extended(grid, source, jitter)
        references["activations"] = network(jnp.asarray(shown), objective.layers)
    for term in objective.terms:
        if isinstance(term, Strongest):
            references["chosen"][term] = strongest_channels(loaded, term, grid, source)
        if isinstance(term, Guide):
            references["guide"][term] = network(jnp.asarray(term.pixels), [term.layer])[term.layer]
        if isinstance(term, Texture):
            references["textures"][term] = plain_target(loaded, term, grid)

    @jax.jit
    def gradient(pixels: jax.Array) -> jax.Array:
        """Return the gradient by the pixels of the extended canvas."""

        def value(p: jax.Array) -> jax.Array:
            """Return the objective's value on the extended canvas."""
            activations = network(p, objective.layers)
            return sum(
                term.weight * plain_value(term, loaded, activations, references, before, canvas.shape[:2])
                for term in objective.terms
            )

        return jax.grad(value)(pixels)

    whole = np.asarray(gradient(jnp.asarray(extended_canvas)))
    return whole[before[0] : before[0] + canvas.shape[0], before[1] : before[1] + canvas.shape[1]]


def set_pixels(arrays: BlockArrays, pixels: Pixels) -> None:
    """Replace a block's own pixels, wherever it is."""
    if isinstance(arrays, ResidentBlock):
        padded, own = arrays.block.padded, arrays.block.pixels
        corner = own.rows.start - padded.rows.start, own.columns.start - padded.columns.start
        arrays.adopt(write_rect(zeros((*padded.shape, 3)), corner, np.array(pixels)))
    else:
        arrays.block_pixels[...] = pixels


def tiled_gradient(
    kernel: Kernel,
    loaded: Loaded,
    grid: Grid,
    canvas: Pixels,
    jitter,
    workers: int = 1,
    source: Pixels | None = None,
    residency: ResidencyRule | None = None,
) -> Pixels:
    """The same by the program's own workers, blocks, margins and windows."""
    blocks = deal_blocks(grid, workers)
    objective = kernel.objectives[0]
    shown = Still(canvas if source is None else source)
    farm = [Worker(kernel, shown, kernel.objectives, loaded.architecture, residency=residency) for _ in blocks]
    kernel_inputs = KernelInputs(0, objective.factors(loaded.architecture, grid.extended_shape))
    margins = [Gathering.of(margin_pieces(block, blocks), number) for number, block in enumerate(blocks)]
    for number, (worker, block) in enumerate(zip(farm, blocks, strict=True)):
        worker.begin_octave(Assignment(number, 0, block, margins[number], {}, Stage(1, 1.0), (kernel_inputs,)))
        set_pixels(worker.arrays, canvas[slice(*block.pixels.rows), slice(*block.pixels.columns)])
    for number, term in objective.statistics.items():
        tile_sums = [
            part
            for worker, block in zip(farm, blocks, strict=True)
            for part in worker.channel_sums(0, block.size, 0, number)
        ]
        total = np.sum([part.sums for part in sorted(tile_sums, key=lambda part: part.tile)], axis=0)
        kernel_inputs = replace(kernel_inputs, chosen={**kernel_inputs.chosen, number: term.choose(total)})
    for worker in farm:
        worker.choose((kernel_inputs,))
    result = np.full_like(canvas, np.nan)
    for worker, margin in zip(farm, margins, strict=True):
        worker.fill_margin(*(farm[owner].read([piece.source for piece in pieces]) for owner, pieces in margin.others))
    match_textures(farm, [block.size for block in blocks], objective, loaded, grid, jitter)
    for worker, block in zip(farm, blocks, strict=True):
        # In parts, as the conductor asks for them.
        parts = [list(block.tiles_from(first, 3)) for first in range(0, block.size, 3)]
        sums = [part for tiles in parts for part in worker.compute_gradient(0, jitter, tiles).sums]
        assert [part.tile for part in sums] == [tile.number for tile in block.tiles()]
        result[slice(*block.pixels.rows), slice(*block.pixels.columns)] = worker.gradient
        total = [sum(values) for values in zip(*(part.sums for part in sums), strict=True)]
        assert statistic(total, "mean_abs") == pytest.approx(np.abs(worker.gradient).mean(dtype=float))
    return result


def match_textures(farm: Sequence[Worker], sizes: Sequence[int], objective: Objective, loaded, grid: Grid, jitter) -> None:
    """Give workers with filled margins the matrices of an objective's textures."""
    if not objective.textures:
        return
    for worker, size in zip(farm, sizes, strict=True):
        for first in range(0, size, 2):
            worker.measure_canvas(first, 2, jitter)
    matrices = {}
    for number, term in objective.textures.items():
        sums = [part.sums for worker in farm for part in worker.canvas_sums() if part.layer == term.layer]
        gram, weight = unpacked(reduce(ExactSums.plus, sums))
        tiles = term.grid(grid, loaded.architecture.layer(term.layer)).tiles
        targets = [farm[first % len(farm)].texture_sums(0, number, first, 2) for first in range(0, tiles, 2)]
        matrices[number] = term.ascent_matrix(gram, weight, unpacked(reduce(ExactSums.plus, targets))[0])
    for worker in farm:
        worker.set_matrices([matrices])


def assert_equal(tiled: Pixels, untiled: Pixels, label: object) -> None:
    """Check that gradients agree to 1e-4 of the mean size."""
    scale = np.abs(untiled).mean()
    assert scale > 0
    assert np.abs(tiled - untiled).max() <= 1e-4 * scale, label
