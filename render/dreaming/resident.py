"""Ascent on a block of canvas that stays in a device's memory: windows are cut, measured and applied there.

A canvas is (rows, columns, 3) float32, 0..255, and covers a block with its margin. Its gradient is an array of slots:
each of the block's tiles has one, as large as a full core. The tile's core begins at the slot's first row and column,
and zeros fill the rest. So slots never overlap, and the result of a tile does not depend on the other tiles of the
block. The network's own program knows nothing of blocks: it takes windows, returns cores, and is compiled once for all
blocks and octaves with windows of one shape. Small programs cut the windows from the block and store the cores.

Arrays that are replaced are donated: they are overwritten in place. All transfers to and from the device use
`jax.device_put` and `jax.device_get`, so that `jax.transfer_guard` can tell them from unintended transfers.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from render.dreaming.ascent import LUMINANCE
from render.dreaming.kernel import Kernel
from render.dreaming.objectives import MOST_COPIES, Given
from render.dreaming.resample import Pixels
from render.geometry.geometry import KernelShape


class Position(NamedTuple):
    """Position of a tile's window in the canvas and of its gradient in the slots; each is (rows, columns), px."""

    #: Start of the window in the canvas.
    corner: tuple[int, int]
    #: Start of the kernel's output in the window, and the distance from there to the tile's core.
    offset: tuple[int, int]
    shift: tuple[int, int]
    #: Size of the tile's core; the last tile of an axis may be smaller than the others.
    size: tuple[int, int]
    #: Start of the tile's slot.
    slot: tuple[int, int]


@dataclass(frozen=True)
class Form:
    """Shape of the windows, number of windows in a kernel call, and how `ascent.measure` sums their gradients."""

    kernel: KernelShape
    windows: int = 1
    normalize: str = "mean_abs"
    luminance_only: bool = False

    @property
    def sums(self) -> int:
        """Number of sums for each row of a tile."""
        return 1 if self.normalize == "mean_abs" else 2


def compiled_cores(kernel: Kernel, given: Given, form: Form) -> jax.stages.Compiled:
    """Return the executable for the gradients of the cores of one call's windows; it knows nothing of blocks.

    For one window it is the executable of `Programs.gradient`, which all callers share. For several, window, places and
    offset get a new first axis, and so does the result: (windows, *core, 3) float32.
    """
    programs, objective, constants = kernel.programs, kernel.objectives[given.objective], kernel.constants(given)
    if form.windows == 1:
        return programs.gradient(objective, constants, form.kernel)
    sizes = tuple(tuple(array.shape for array in arrays) for arrays in constants)

    def make() -> tuple[jax.stages.Wrapped, tuple]:
        terms, windows = len(objective.terms), form.windows
        arguments = (
            programs.state,
            jax.ShapeDtypeStruct((windows, *form.kernel.window, 3), jnp.float32),
            None,
            constants,
            jax.ShapeDtypeStruct((terms,), jnp.float32),
            jax.ShapeDtypeStruct((windows, terms, 2, MOST_COPIES), jnp.int32),
            jax.ShapeDtypeStruct((windows, 2), jnp.int32),
        )
        core = partial(programs.objective_gradient, objective, form.kernel.core)
        return jax.jit(jax.vmap(core, (None, 0, None, None, None, 0, 0))), arguments

    return programs.program(("windows", objective.structure, sizes, form.kernel, form.windows), make)


def call_bytes(cores: jax.stages.Compiled) -> tuple[int, int]:
    """Return the bytes of a `compiled_cores` call on the device: its arguments (weights, windows), and all else."""
    analysis = cores.memory_analysis()
    assert analysis is not None, "this backend does not say what a kernel needs"
    return analysis.argument_size_in_bytes, analysis.temp_size_in_bytes + analysis.output_size_in_bytes


@partial(jax.jit, static_argnames="form")
def windows_of(canvas: jax.Array, positions: jax.Array, form: Form) -> jax.Array:
    """Cut the kernel's input: (rows, columns, 3), or (windows, rows, columns, 3) if a call has several windows.

    `positions` is (windows, 5, 2) int32, each entry a `Position`.
    """
    windows = [
        lax.dynamic_slice(canvas, (position[0, 0], position[0, 1], 0), (*form.kernel.window, 3))
        for position in (positions[number] for number in range(form.windows))
    ]
    return windows[0] if form.windows == 1 else jnp.stack(windows)


@partial(jax.jit, static_argnames="form", donate_argnames="slots")
def kept(slots: jax.Array, cores: jax.Array, positions: jax.Array, form: Form) -> tuple[jax.Array, jax.Array]:
    """Store the kernel's gradients in the slots, and return the slots and the sums of each row.

    The sums are (sums, rows) float32 for each window: for every row of the tile's core the sum of its absolute values
    or, for `std`, of its values and of their squares.
    """
    row_sums = []
    for number in range(form.windows):
        _, _, shift, size, slot = positions[number]
        gradient = _aligned(cores if form.windows == 1 else cores[number], shift, size)
        if form.luminance_only:
            # Not a matrix product: accelerators may compute those at a lower precision.
            gradient = jnp.broadcast_to((gradient * LUMINANCE).sum(-1, keepdims=True), gradient.shape)
        slots = lax.dynamic_update_slice(slots, gradient, (slot[0], slot[1], 0))
        if form.normalize == "mean_abs":
            row_sums.append(jnp.abs(gradient).sum((1, 2))[None])
        else:
            row_sums.append(jnp.stack([gradient.sum((1, 2)), jnp.square(gradient).sum((1, 2))]))
    return slots, jnp.stack(row_sums)


def _aligned(core: jax.Array, shift: jax.Array, size: jax.Array) -> jax.Array:
    """Move the tile's core to the start of the kernel's output, and fill the rest with zeros."""
    core = jnp.roll(jnp.roll(core, -shift[0], 0), -shift[1], 1)
    inside = (jnp.arange(core.shape[0]) < size[0])[:, None] & (jnp.arange(core.shape[1]) < size[1])
    return jnp.where(inside[..., None], core, 0)


@partial(jax.jit, static_argnames="shape")
def zeros(shape: tuple[int, ...]) -> jax.Array:
    """Return zeros on the device, float32."""
    return jnp.zeros(shape, jnp.float32)


@partial(jax.jit, donate_argnames="canvas", static_argnames=("corner", "shape"))
def moved(
    canvas: jax.Array, slots: jax.Array, scale: jax.Array, corner: tuple[int, int], shape: tuple[int, int]
) -> jax.Array:
    """Return the canvas after a step: `ascent.update` applied to the block of `shape` that begins at `corner`."""
    start, size = (*corner, 0), (*shape, 3)
    block = lax.slice(canvas, start, tuple(map(sum, zip(start, size, strict=True))))
    block = jnp.clip(block + scale * lax.slice(slots, (0, 0, 0), size), 0.0, 255.0)
    return lax.dynamic_update_slice(canvas, block, start)


def taken(
    array: jax.Array, corner: tuple[int, int], shape: tuple[int, int], flip: tuple[bool, bool] = (False, False)
) -> jax.Array:
    """Return a rectangle of an array on the device as a new array there, flipped along the axes set in `flip`."""
    return _taken(array, jax.device_put(np.asarray(corner, np.int32)), shape=shape, flip=flip)


def replaced(array: jax.Array, corner: tuple[int, int], pixels: jax.Array | Pixels) -> jax.Array:
    """Return the array with `pixels` written to it from `corner` on; the array is donated."""
    device_pixels = pixels if isinstance(pixels, jax.Array) else jax.device_put(pixels)
    return _replaced(array, device_pixels, jax.device_put(np.asarray(corner, np.int32)))


@partial(jax.jit, static_argnames=("shape", "flip"))
def _taken(array: jax.Array, corner: jax.Array, *, shape: tuple[int, int], flip: tuple[bool, bool]) -> jax.Array:
    part = lax.dynamic_slice(array, (corner[0], corner[1], 0), (*shape, 3))
    return jnp.flip(part, [axis for axis in (0, 1) if flip[axis]])


@partial(jax.jit, donate_argnames="array")
def _replaced(array: jax.Array, pixels: jax.Array, corner: jax.Array) -> jax.Array:
    return lax.dynamic_update_slice(array, pixels, (corner[0], corner[1], 0))
