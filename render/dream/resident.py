"""Ascent on a block of canvas that stays in a device's memory: windows are cut, measured and followed where they lie.

A canvas is (rows, columns, 3) float32, 0..255, and covers a block with its margin. Its gradient is an array of slots: each
of the block's tiles has one, as large as a full core, in which the tile's core begins at the first row and column and zeros
fill the rest. So no tile's slot overlaps another's, and what a tile comes to does not depend on who else is in the block.

Arrays that are replaced are donated: they are written where they were. All that goes to the device or comes from it does so
by `jax.device_put` and `jax.device_get`, which `jax.transfer_guard` tells from transfers that nobody asked for.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax import lax

from render.dream.ascent import LUMINANCE
from render.dream.kernel import Kernel, Programs
from render.dream.objectives import MOST_COPIES, Given, Objective
from render.dream.resample import Pixels
from render.geometry import KernelShape


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
    """What an ascent is compiled for: windows, how many of them a call has, (rows, columns) of canvas and slots, and what
    tiles are measured by.
    """

    kernel: KernelShape
    windows: int
    canvas: tuple[int, int]
    slots: tuple[int, int]
    normalize: str = "mean_abs"
    luminance_only: bool = False

    @property
    def sums(self) -> int:
        """How many sums each row of a tile has."""
        return 1 if self.normalize == "mean_abs" else 2


def compiled_ascent(kernel: Kernel, given: Given, form: Form) -> jax.stages.Compiled:
    """The executable that computes the gradients of a few tiles toward the objective that is given.

    From the network's state, canvas, slots (donated), the objective's constants, divisors, places (windows, terms, 2,
    `MOST_COPIES`) and positions (windows, 5, 2) int32, it makes the slots anew, and for each window (sums, rows) float32: of
    every row of the core the sum of its absolute values or, for `std`, of its values and of their squares.
    """
    programs, objective = kernel.programs, kernel.objectives[given.objective]
    constants = kernel.constants(given)
    sizes = tuple(tuple(array.shape for array in own) for own in constants)

    def make() -> tuple[jax.stages.Wrapped, tuple]:
        terms = len(objective.terms)
        arguments = (
            programs.state,
            jax.ShapeDtypeStruct((*form.canvas, 3), jnp.float32),
            jax.ShapeDtypeStruct((*form.slots, 3), jnp.float32),
            constants,
            jax.ShapeDtypeStruct((terms,), jnp.float32),
            jax.ShapeDtypeStruct((form.windows, terms, 2, MOST_COPIES), jnp.int32),
            jax.ShapeDtypeStruct((form.windows, len(Position._fields), 2), jnp.int32),
        )
        return jax.jit(partial(_ascend, programs, objective, form), donate_argnums=2), arguments

    return programs.program(("ascent", objective.structure, sizes, form), make)


def device_bytes(ascent: jax.stages.Compiled, block: tuple[int, int]) -> int:
    """Bytes of device memory that a block of (rows, columns) px takes while it is stepped: by XLA's analysis of an ascent,
    canvas, slots and weights included.
    """
    analysis = ascent.memory_analysis()
    assert analysis is not None, "this backend does not say what an ascent needs"
    held = analysis.argument_size_in_bytes + analysis.output_size_in_bytes - analysis.alias_size_in_bytes
    # An update may have to make the block's pixels once more.
    return held + max(analysis.temp_size_in_bytes, 12 * block[0] * block[1])


def _ascend(
    programs: Programs,
    objective: Objective,
    form: Form,
    state: nnx.State,
    canvas: jax.Array,
    slots: jax.Array,
    constants: Sequence[tuple[jax.Array, ...]],
    divisors: jax.Array,
    places: jax.Array,
    positions: jax.Array,
) -> tuple[jax.Array, jax.Array]:
    where = [Position(*positions[number]) for number in range(form.windows)]
    windows = [lax.dynamic_slice(canvas, (*at.corner, 0), (*form.kernel.window, 3)) for at in where]
    core_of = partial(programs.core_gradient, objective, form.kernel.core, state)
    if form.windows == 1:
        cores = core_of(windows[0], None, constants, divisors, places[0], where[0].offset)[None]
    else:
        offsets = jnp.stack([at.offset for at in where])
        each = jax.vmap(core_of, (0, None, None, None, 0, 0))
        cores = each(jnp.stack(windows), None, constants, divisors, places, offsets)
    found = []
    for core, at in zip(cores, where, strict=True):
        gradient = _aligned(core, at)
        if form.luminance_only:
            # Not a product of matrices: accelerators may round those.
            gradient = jnp.broadcast_to((gradient * LUMINANCE).sum(-1, keepdims=True), gradient.shape)
        slots = lax.dynamic_update_slice(slots, gradient, (*at.slot, 0))
        if form.normalize == "mean_abs":
            found.append(jnp.abs(gradient).sum((1, 2))[None])
        else:
            found.append(jnp.stack([gradient.sum((1, 2)), jnp.square(gradient).sum((1, 2))]))
    return slots, jnp.stack(found)


def _aligned(core: jax.Array, at: Position) -> jax.Array:
    """What the kernel has cut with the tile's own core first, and zeros after it."""
    core = jnp.roll(core, (-at.shift[0], -at.shift[1]), (0, 1))
    rows, columns = (jnp.arange(length) < size for length, size in zip(core.shape[:2], at.size, strict=True))
    return jnp.where((rows[:, None] & columns)[..., None], core, 0)


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


def taken(array: jax.Array, corner: tuple[int, int], shape: tuple[int, int], flip: tuple[bool, bool] = (False, False)):
    """A rectangle of an array on the device, flipped along the axes that say so: another array there."""
    return _taken(array, jax.device_put(np.asarray(corner, np.int32)), shape=shape, flip=flip)


def replaced(array: jax.Array, corner: tuple[int, int], pixels: jax.Array | Pixels) -> jax.Array:
    """An array with `pixels` in it from `corner` on; it is donated."""
    return _replaced(array, jax.device_put(pixels), jax.device_put(np.asarray(corner, np.int32)))


@partial(jax.jit, static_argnames=("shape", "flip"))
def _taken(array: jax.Array, corner: jax.Array, *, shape: tuple[int, int], flip: tuple[bool, bool]) -> jax.Array:
    part = lax.dynamic_slice(array, (corner[0], corner[1], 0), (*shape, 3))
    return jnp.flip(part, [axis for axis in (0, 1) if flip[axis]])


@partial(jax.jit, donate_argnames="array")
def _replaced(array: jax.Array, pixels: jax.Array, corner: jax.Array) -> jax.Array:
    return lax.dynamic_update_slice(array, pixels, (corner[0], corner[1], 0))
