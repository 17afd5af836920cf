"""Ascent on a block of canvas that stays in a device's memory: windows are cut, measured and applied there.

A canvas is (rows, columns, 3) float32, 0..255, and covers a block with its margin. Its gradient is an array of slots:
each of the block's tiles has one, as large as a full core. The tile's core begins at the slot's first row and column,
and zeros fill the rest. So slots never overlap, and the result of a tile does not depend on the other tiles of the
block. If the gradient is filtered, a ring around the slots has the gradient of the pixels around. The network's own
program knows nothing of blocks: it takes windows, returns cores, and is compiled once for all blocks and octaves with
windows of one shape. Small programs cut the windows from the block and store the cores.

Arrays that are overwritten are donated. All transfers to and from the device use `jax.device_put` and `jax.device_get`, so
that `jax.transfer_guard` can tell them from unintended transfers.
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
from render.dreaming.decorrelation import mixing_matrix
from render.dreaming.kernel import Kernel
from render.dreaming.objectives import KernelInputs
from render.dreaming.programs import PER_WINDOW, GradientArguments
from render.dreaming.resample import Pixels
from render.dreaming.serialized import memory_of
from render.dreaming.shoulder import limit_change
from render.geometry.geometry import KernelShape


class Position(NamedTuple):
    """Position of a tile's window in the canvas and of its gradient in the slots.

    Each is (rows, columns), px.
    """

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
class BatchSpec:
    """Static settings of the programs that step a block on the device.

    Attributes:
        shape: Shapes of window and core.
        windows: Number of windows in a kernel call, on each device.
        normalize: Statistic of the gradient, `mean_abs` or `std`: see `ascent.measure`.
        luminance_only: If true, all channels of a gradient become its luminance: see `ascent.luminance`.
        decorrelate: Strength of the decorrelation of colours, 0 to 1: see `decorrelation.decorrelate`.
        ring: Px around the slots, on every side.
        devices: Number of devices. With several, the first holds the block, and each takes windows of its own.
    """

    shape: KernelShape
    windows: int = 1
    normalize: str = "mean_abs"
    luminance_only: bool = False
    decorrelate: float = 0.0
    ring: int = 0
    devices: int = 1

    @property
    def windows_at_once(self) -> int:
        """Number of windows in a kernel call, on all devices together."""
        return self.windows * self.devices

    @property
    def sums(self) -> int:
        """Number of sums for each row of a tile: 1, or 2 for `std`."""
        return 1 if self.normalize == "mean_abs" else 2


def compile_gradient(kernel: Kernel, kernel_inputs: KernelInputs, spec: BatchSpec) -> jax.stages.Compiled:
    """Return the executable for the gradients of the cores of one call's windows.

    For one window it is the executable of `Programs.gradient`, which all callers share. For several, the arguments that
    `PER_WINDOW` names get a new first axis, and so does the result: (windows, *core, 3) float32. With several devices
    there is another axis before these, of one entry for each device: see `Devices.program`.

    Args:
        kernel: The job's kernel.
        kernel_inputs: The objective; its numbers do not matter.
        spec: Shape and number of windows.
    """
    programs, objective = kernel.programs, kernel.objectives[kernel_inputs.objective]
    constants = kernel.constants(kernel_inputs)
    if spec.windows == 1:
        return programs.gradient(objective, constants, spec.shape)
    constant_shapes = tuple(tuple(array.shape for array in arrays) for arrays in constants)

    def build() -> tuple[jax.stages.Wrapped, tuple[GradientArguments]]:
        """Return the program for several windows, and the arguments to compile it for."""
        arguments = programs.argument_shapes(objective, constants, spec.shape, (spec.windows,))
        axes: GradientArguments[int | None] = GradientArguments(*(0 if differs else None for differs in PER_WINDOW))
        gradient = partial(programs.objective_gradient, objective, spec.shape.core)
        program, batched_arguments = programs.devices.program(jax.vmap(gradient, (axes,)), arguments, PER_WINDOW)
        return program, (batched_arguments,)

    return programs.program(("windows", objective.structure, constant_shapes, spec.shape, spec.windows), build)


def call_bytes(gradient: jax.stages.Compiled) -> tuple[int, int]:
    """Return the bytes of a gradient call on the device: of its arguments, and of all else.

    The arguments are the network's weights and the windows; the rest is the result and what is stored on the way to it.
    """
    memory = memory_of(gradient)
    return memory.argument, memory.temporary + memory.output


@partial(jax.jit, static_argnames="spec")
def cut_windows(canvas: jax.Array, positions: jax.Array, spec: BatchSpec) -> jax.Array:
    """Return the windows of one kernel call, cut from the canvas.

    Args:
        canvas: (rows, columns, 3) float32; or the source under it.
        positions: (windows, 5, 2) int32, each entry a `Position`.
        spec: Shape and number of windows.

    Returns:
        (*spec.shape.window, 3) float32, with a first axis of windows if a call has several. If there are several devices,
            it is the entry of one of them: an axis of length 1 comes first.
    """
    windows = [
        lax.dynamic_slice(canvas, (position[0, 0], position[0, 1], 0), (*spec.shape.window, 3))
        for position in (positions[number] for number in range(spec.windows))
    ]
    pixels = windows[0] if spec.windows == 1 else jnp.stack(windows)
    return pixels[None] if spec.devices > 1 else pixels


@partial(jax.jit, static_argnames="spec", donate_argnames="slots")
def store_gradients(
    slots: jax.Array, cores: jax.Array, positions: jax.Array, spec: BatchSpec, mask: jax.Array | None = None
) -> tuple[jax.Array, jax.Array]:
    """Store the gradients of one kernel call in the slots, and sum them row by row.

    Args:
        slots: (rows, columns, 3) float32; donated.
        cores: Result of `compile_gradient`'s executable, or one device's entry of it.
        positions: (windows, 5, 2) int32, each entry a `Position`.
        spec: Shape and number of windows, and the sums to take.
        mask: Weights of the pixels in the sums, (rows, columns) float32 over the slots without their ring; None weighs
            every pixel 1.

    Returns:
        The slots, and (windows, spec.sums, rows) float32: see `sum_rows`.
    """
    row_sums = []
    cores = cores.reshape((spec.windows, *spec.shape.core, 3))
    for number in range(spec.windows):
        _, _, shift, size, slot = positions[number]
        gradient = _shift_core(cores[number], shift, size)
        # Not matrix products: accelerators may compute those at a lower precision.
        if spec.luminance_only:
            gradient = jnp.broadcast_to((gradient * LUMINANCE).sum(-1, keepdims=True), gradient.shape)
        elif spec.decorrelate:
            gradient = jnp.stack([(gradient * weights).sum(-1) for weights in mixing_matrix(spec.decorrelate)], axis=-1)
        slots = lax.dynamic_update_slice(slots, gradient, (slot[0], slot[1], 0))
        weights = None if mask is None else lax.dynamic_slice(mask, slot - spec.ring, spec.shape.core)
        row_sums.append(sum_rows(gradient, weights, spec.normalize))
    return slots, jnp.stack(row_sums)


def sum_rows(gradient: jax.Array, weights: jax.Array | None, normalize: str) -> jax.Array:
    """Return the sums of each row of a tile's gradient that `ascent.measure` takes of the whole, without those of weights.

    Args:
        gradient: (rows, columns, 3) float32.
        weights: (rows, columns) float32; None weighs every pixel 1.
        normalize: `mean_abs` or `std`.

    Returns:
        (sums, rows) float32: the sum of weight * |g| or, for `std`, of weight * g and of weight * g^2.
    """
    if normalize == "mean_abs":
        sizes = jnp.abs(gradient)
        return (sizes if weights is None else weights[..., None] * sizes).sum((1, 2))[None]
    if weights is None:
        return jnp.stack([gradient.sum((1, 2)), jnp.square(gradient).sum((1, 2))])
    weighted = weights[..., None] * gradient
    return jnp.stack([weighted.sum((1, 2)), (weighted * gradient).sum((1, 2))])


def _shift_core(core: jax.Array, shift: jax.Array, size: jax.Array) -> jax.Array:
    """Return the tile's core at the start of the kernel's output, and zeros in the rest.

    `shift` is the core's distance from the start, `size` its size; both are (2,) int32.
    """
    core = jnp.roll(jnp.roll(core, -shift[0], 0), -shift[1], 1)
    inside = (jnp.arange(core.shape[0]) < size[0])[:, None] & (jnp.arange(core.shape[1]) < size[1])
    return jnp.where(inside[..., None], core, 0)


@partial(jax.jit, static_argnames="shape")
def zeros(shape: tuple[int, ...]) -> jax.Array:
    """Return float32 zeros of a static shape, on the device."""
    return jnp.zeros(shape, jnp.float32)


@partial(jax.jit, donate_argnames="canvas", static_argnames=("corner", "shape", "source_corner", "shoulder"))
def apply_update(
    canvas: jax.Array,
    slots: jax.Array,
    scale: jax.Array,
    corner: tuple[int, int],
    shape: tuple[int, int],
    source: jax.Array | None = None,
    source_corner: tuple[int, int] = (0, 0),
    shoulder: float = 0.0,
) -> jax.Array:
    """Return the canvas after a step: clip(canvas + scale * gradient, 0, 255) in the block.

    Args:
        canvas: (rows, columns, 3) float32, 0..255; donated.
        slots: The block's gradient from its first row and column on.
        scale: step_size / mean|gradient|, a float32 scalar.
        corner: First row and column of the block in the canvas, static.
        shape: (rows, columns) of the block, static.
        source: (rows, columns, 3) float32 with the block's source; needed with a shoulder.
        source_corner: First row and column of the block in the source, static.
        shoulder: Room, in levels, from which on detail is limited near black and white, static; 0 only clips.
    """
    start, size = (*corner, 0), (*shape, 3)
    block = lax.slice(canvas, start, tuple(map(sum, zip(start, size, strict=True))))
    change = scale * lax.slice(slots, (0, 0, 0), size)
    if shoulder:
        assert source is not None, "a limit is measured from the source"
        source_start = (*source_corner, 0)
        block_source = lax.slice(source, source_start, tuple(map(sum, zip(source_start, size, strict=True))))
        change = limit_change(block, block_source, change, shoulder, jnp)
    block = jnp.clip(block + change, 0.0, 255.0)
    return lax.dynamic_update_slice(canvas, block, start)


def read_rect(
    array: jax.Array, corner: tuple[int, int], shape: tuple[int, int], flip: tuple[bool, bool] = (False, False)
) -> jax.Array:
    """Return a rectangle of an array on the device as a new array there.

    Args:
        array: (rows, columns, 3) or (rows, columns) float32.
        corner: First row and column of the rectangle.
        shape: (rows, columns) of the rectangle.
        flip: Whether to flip it along rows and along columns.
    """
    return _read_rect(array, jax.device_put(np.asarray(corner, np.int32)), shape=shape, flip=flip)


def write_rect(array: jax.Array, corner: tuple[int, int], pixels: jax.Array | Pixels) -> jax.Array:
    """Return the array with a rectangle of pixels written to it; the array is donated.

    Args:
        array: (rows, columns, 3) or (rows, columns) float32, on the device.
        corner: Row and column of the array at which the pixels begin.
        pixels: (rows, columns, 3) or (rows, columns) float32, on the device or the host.
    """
    device_pixels = pixels if isinstance(pixels, jax.Array) else jax.device_put(pixels)
    return _write_rect(array, device_pixels, jax.device_put(np.asarray(corner, np.int32)))


@jax.jit
def roll(array: jax.Array, shift: jax.Array) -> jax.Array:
    """Return (rows, columns, 3) pixels moved by (2,) int32 rows and columns; those that leave come in at the other end."""
    return jnp.roll(jnp.roll(array, shift[0], 0), shift[1], 1)


@partial(jax.jit, static_argnames=("shape", "flip"))
def _read_rect(array: jax.Array, corner: jax.Array, *, shape: tuple[int, int], flip: tuple[bool, bool]) -> jax.Array:
    part = lax.dynamic_slice(array, _starts(array, corner), (*shape, *array.shape[2:]))
    return jnp.flip(part, [axis for axis in (0, 1) if flip[axis]])


@partial(jax.jit, donate_argnames="array")
def _write_rect(array: jax.Array, pixels: jax.Array, corner: jax.Array) -> jax.Array:
    return lax.dynamic_update_slice(array, pixels, _starts(array, corner))


def _starts(array: jax.Array, corner: jax.Array) -> tuple[jax.Array | int, ...]:
    """Return the start along every axis of an array, for a row and a column."""
    return corner[0], corner[1], *(0 for _ in array.shape[2:])
