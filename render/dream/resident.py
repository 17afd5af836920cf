"""Ascent on a block of canvas that stays in a device's memory: windows are cut, measured and followed where they lie.

A canvas is (rows, columns, 3) float32, 0..255, and covers a block with its margin. Its gradient is an array of slots: each
of the block's tiles has one, as large as a full core, in which the tile's core begins at the first row and column and zeros
fill the rest. So no tile's slot overlaps another's, and what a tile comes to does not depend on who else is in the block.
The network's own program knows nothing of blocks: it takes windows and gives cores, and is compiled once for all blocks and
octaves whose windows are alike. Small programs between it and the block cut and keep.

Arrays that are replaced are donated: they are written where they were. All that goes to the device or comes from it does so
by `jax.device_put` and `jax.device_get`, which `jax.transfer_guard` tells from transfers that nobody asked for.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from render.dream.ascent import LUMINANCE
from render.dream.kernel import Kernel
from render.dream.objectives import MOST_COPIES, Given
from render.dream.resample import Pixels
from render.geometry.geometry import KernelShape


class Position(NamedTuple):
    """Where a tile's gradient comes from and goes to; each is (rows, columns), px."""

    #: Where the window begins in the canvas.
    corner: tuple[int, int]
    #: Where what the kernel cuts begins in the window, and by how much the tile's core begins later.
    offset: tuple[int, int]
    shift: tuple[int, int]
    #: Size of the tile's core, which the last of an axis may have smaller.
    size: tuple[int, int]
    #: Where the tile's slot begins.
    slot: tuple[int, int]


@dataclass(frozen=True)
class Form:
    """The shape of windows, how many of them a kernel call has, and what `ascent.measure` makes of their gradients."""

    kernel: KernelShape
    windows: int = 1
    normalize: str = "mean_abs"
    luminance_only: bool = False

    @property
    def sums(self) -> int:
        """How many sums each row of a tile has."""
        return 1 if self.normalize == "mean_abs" else 2


def compiled_cores(kernel: Kernel, given: Given, form: Form) -> jax.stages.Compiled:
    """The executable that computes the cores' gradients of a call's windows toward an objective, without regard to blocks.

    For one window it is the one that `Programs.gradient` has for everybody. For several, window, places and offset have a
    first axis more, and so has what it makes: (windows, *core, 3) float32.
    """
    programs, objective, constants = kernel.programs, kernel.objectives[given.objective], kernel.constants(given)
    if form.windows == 1:
        return programs.gradient(objective, constants, form.kernel)
    sizes = tuple(tuple(array.shape for array in own) for own in constants)

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
    """Bytes of device memory that a call of `compiled_cores` is given, weights and windows, and that it takes besides."""
    analysis = cores.memory_analysis()
    assert analysis is not None, "this backend does not say what a kernel needs"
    return analysis.argument_size_in_bytes, analysis.temp_size_in_bytes + analysis.output_size_in_bytes


@partial(jax.jit, static_argnames="form")
def windows_of(canvas: jax.Array, positions: jax.Array, form: Form) -> jax.Array:
    """What the kernel is given: (rows, columns, 3), or (windows, rows, columns, 3) where a call has several.

    `positions`: (windows, 5, 2) int32, each a `Position`.
    """
    cut = [
        lax.dynamic_slice(canvas, (at[0, 0], at[0, 1], 0), (*form.kernel.window, 3))
        for at in (positions[number] for number in range(form.windows))
    ]
    return cut[0] if form.windows == 1 else jnp.stack(cut)


@partial(jax.jit, static_argnames="form", donate_argnames="slots")
def kept(slots: jax.Array, cores: jax.Array, positions: jax.Array, form: Form) -> tuple[jax.Array, jax.Array]:
    """The slots with what the kernel has made in them, and for each window (sums, rows) float32: of every row of the tile's
    core the sum of its absolute values or, for `std`, of its values and of their squares.
    """
    found = []
    for number in range(form.windows):
        _, _, shift, size, slot = positions[number]
        gradient = _aligned(cores if form.windows == 1 else cores[number], shift, size)
        if form.luminance_only:
            # Not a product of matrices: accelerators may round those.
            gradient = jnp.broadcast_to((gradient * LUMINANCE).sum(-1, keepdims=True), gradient.shape)
        slots = lax.dynamic_update_slice(slots, gradient, (slot[0], slot[1], 0))
        if form.normalize == "mean_abs":
            found.append(jnp.abs(gradient).sum((1, 2))[None])
        else:
            found.append(jnp.stack([gradient.sum((1, 2)), jnp.square(gradient).sum((1, 2))]))
    return slots, jnp.stack(found)


def _aligned(core: jax.Array, shift: jax.Array, size: jax.Array) -> jax.Array:
    """What the kernel has cut with the tile's own core first, and zeros after it."""
    core = jnp.roll(jnp.roll(core, -shift[0], 0), -shift[1], 1)
    inside = (jnp.arange(core.shape[0]) < size[0])[:, None] & (jnp.arange(core.shape[1]) < size[1])
    return jnp.where(inside[..., None], core, 0)


@partial(jax.jit, static_argnames="shape")
def zeros(shape: tuple[int, ...]) -> jax.Array:
    """Zeros on the device, float32."""
    return jnp.zeros(shape, jnp.float32)


@partial(jax.jit, donate_argnames="canvas", static_argnames=("corner", "shape"))
def moved(
    canvas: jax.Array, slots: jax.Array, scale: jax.Array, corner: tuple[int, int], shape: tuple[int, int]
) -> jax.Array:
    """The canvas after a step: what `ascent.update` does, to the block of `shape` that begins at `corner`."""
    start, size = (*corner, 0), (*shape, 3)
    own = lax.slice(canvas, start, tuple(map(sum, zip(start, size, strict=True))))
    own = jnp.clip(own + scale * lax.slice(slots, (0, 0, 0), size), 0.0, 255.0)
    return lax.dynamic_update_slice(canvas, own, start)


def taken(
    array: jax.Array, corner: tuple[int, int], shape: tuple[int, int], flip: tuple[bool, bool] = (False, False)
) -> jax.Array:
    """A rectangle of an array on the device, flipped along the axes that say so: another array there."""
    return _taken(array, jax.device_put(np.asarray(corner, np.int32)), shape=shape, flip=flip)


def replaced(array: jax.Array, corner: tuple[int, int], pixels: jax.Array | Pixels) -> jax.Array:
    """An array with `pixels` in it from `corner` on; it is donated."""
    there = pixels if isinstance(pixels, jax.Array) else jax.device_put(pixels)
    return _replaced(array, there, jax.device_put(np.asarray(corner, np.int32)))


@partial(jax.jit, static_argnames=("shape", "flip"))
def _taken(array: jax.Array, corner: jax.Array, *, shape: tuple[int, int], flip: tuple[bool, bool]) -> jax.Array:
    part = lax.dynamic_slice(array, (corner[0], corner[1], 0), (*shape, 3))
    return jnp.flip(part, [axis for axis in (0, 1) if flip[axis]])


@partial(jax.jit, donate_argnames="array")
def _replaced(array: jax.Array, pixels: jax.Array, corner: jax.Array) -> jax.Array:
    return lax.dynamic_update_slice(array, pixels, (corner[0], corner[1], 0))
