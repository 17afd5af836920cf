"""Gradient of a window's core, computed from only the activations that the core needs.

A window is a core with a halo around it, and the halo's gradient is not needed. In each layer the backward pass uses only
the activations whose receptive field touches the core. That is about the core plus the layer's receptive field; the whole
window is the core plus twice the deepest layer's. The other activations never reach the core, so the gradient is the same
for a fraction of the work: see `Architecture.followed_sizes`.

A part of a layer is processed as if it were the whole layer. The inputs of a part start at its outputs' start times the
stride, so they line up with the node's windows as in the whole layer. Sums near the edges of a part are incomplete, but
they belong to activations that do not touch the core. A part ends at the window's edge only where the picture ends too.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from render.networks.architecture import AxisFields, Layer
from render.networks.array_ops import wide
from render.networks.convolutions import convolve_back, mix_back, mixing_weights
from render.networks.network import Head, Network, Tape, head_of, preprocess
from render.networks.nodes import (
    AvgPool,
    Conv,
    InceptionBlock,
    LocalResponseNorm,
    MaxPool,
    Node,
    input_extent,
    node_stride,
    output_size,
)
from render.networks.pools import average_pool_back, max_pool_back, neighbours
from render.networks.residuals import materialized
from render.networks.response_norm import local_response_norm_back


class Part(NamedTuple):
    """Rectangle of a layer's activations."""

    #: First row and column, int32 scalars; they may be traced.
    start: tuple[jax.Array, jax.Array]
    #: (rows, columns), static.
    size: tuple[int, int]

    def of(self, values: jax.Array) -> jax.Array:
        """Return this part of `values`, the whole layer: (1, rows, columns, channels)."""
        if values.shape[1:3] == self.size:
            return values
        return lax.dynamic_slice(values, (0, *self.start, 0), (1, *self.size, values.shape[3]))


def core_gradient(
    network: Network,
    tape: Tape,
    cotangents: Mapping[str, jax.Array],
    window: tuple[int, int],
    core: tuple[int, int],
    offset: jax.Array,
) -> jax.Array:
    """Return the gradient of the objective with respect to the core's pixels.

    Args:
        network: The network.
        tape: Second result of `Network.taped` for the window.
        cotangents: Gradients of the objective with respect to the activations that `Network.taped` returned, by layer.
        window: (rows, columns) of the window, px.
        core: (rows, columns) of the core, px.
        offset: First row and column of the core in the window, (2,) int32; clamped so that the core fits.

    Returns:
        (*core, 3) float32.
    """
    core_start = [_clamp(0, offset[axis], window[axis] - core[axis]) for axis in range(2)]
    architecture = network.architecture
    sizes, followed = architecture.output_sizes(*window), architecture.followed_sizes(window, core)
    backward = _BackwardPass(network, tape, cotangents, sizes)
    zero = jnp.int32(0)
    part, g = Part((zero, zero), sizes[architecture.nodes[-1].name]), None
    for node, input_size in zip(reversed(architecture.nodes), reversed(architecture.input_sizes(*window)), strict=True):
        layer, full = architecture.layer(node.name), sizes[node.name]
        outputs = part
        if followed[node.name] != part.size:
            outputs = _part_seeing_core(layer.axis_fields, full, core_start, followed[node.name], part)
            g = None if g is None else _relative(part, outputs).of(g)
        stride = node_stride(node)
        part = Part(
            (stride * outputs.start[0], stride * outputs.start[1]), input_extent(node, outputs.size, full, input_size)
        )
        g = backward.through(node, outputs, part, g)
    if g is None:
        return jnp.zeros((*core, 3), jnp.float32)
    pixels = jax.vjp(partial(preprocess, settings=architecture.preprocess), jnp.zeros((*part.size, 3), jnp.float32))[1]
    gradient = lax.dynamic_update_slice(jnp.zeros((*window, 3), jnp.float32), pixels(wide(g)[0])[0], (*part.start, 0))
    return lax.dynamic_slice(gradient, (*core_start, 0), (*core, 3))


def _part_seeing_core(
    axis_fields: AxisFields,
    full_size: Sequence[int],
    core_start: Sequence[jax.Array],
    size: tuple[int, int],
    container: Part,
) -> Part:
    """Return the part of a layer that starts at the first activation that sees the core.

    Args:
        axis_fields: The layer's receptive fields along rows and columns.
        full_size: (rows, columns) of all its activations.
        core_start: First row and column of the core, px.
        size: (rows, columns) of the part to return.
        container: Part of the layer that must contain the result.
    """
    starts = []
    for axis, field in enumerate(axis_fields):
        # First activation whose receptive field ends at or after the start of the core, rounded up.
        first = -((field.high - core_start[axis]) // field.stride)
        start = _clamp(0, first, full_size[axis] - size[axis])
        lowest = container.start[axis]
        starts.append(_clamp(lowest, start, lowest + (container.size[axis] - size[axis])))
    return Part((starts[0], starts[1]), size)


def _clamp(low: jax.Array | int, x: jax.Array, high: jax.Array | int) -> jax.Array:
    """Return `x` limited to [low, high], int32."""
    return lax.clamp(jnp.int32(low), x, jnp.int32(high))


def _relative(outer: Part, inner: Part) -> Part:
    """Return the inner part relative to the outer one."""
    return Part((inner.start[0] - outer.start[0], inner.start[1] - outer.start[1]), inner.size)


class _BackwardPass:
    """Backward pass of one window, from the gradients of outputs to those of inputs.

    In all methods `g` is the gradient of a part of some activations, (1, rows, columns, channels) of the network's number
    type, and None stands for zeros.
    """

    def __init__(
        self,
        network: Network,
        tape: Tape,
        cotangents: Mapping[str, jax.Array],
        sizes: Mapping[str, tuple[int, int]],
    ) -> None:
        self._network = network
        self._tape = tape
        self._cotangents = cotangents
        self._sizes = sizes

    def through(self, node: Node, part: Part, inputs: Part, g: jax.Array | None) -> jax.Array | None:
        """Return the gradient of a part of a node's inputs from that of a part of its outputs.

        Args:
            node: The node.
            part: Part of its outputs.
            inputs: Part of its inputs that `part` needs.
            g: Gradient of the outputs in `part`.
        """
        g = self._before_relu(node.name, part, g)
        if isinstance(node, InceptionBlock):
            return self._through_block(node, inputs, g)
        if g is None:
            return None
        match node:
            case Conv():
                return convolve_back(node, inputs.size, self._kernel(node), g, self._network.products)
            case MaxPool():
                return max_pool_back(node, inputs.size, materialized(part.of, self._tape.winners[node.name], g), g)
            case AvgPool():
                return self._through_average(node, part, g)
            case LocalResponseNorm():
                return local_response_norm_back(node, part.of(self._tape.normed[node.name]), g)

    def _before_relu(self, name: str, part: Part, g: jax.Array | None) -> jax.Array | None:
        """Return the gradient before the node's ReLU, if it has one.

        Add the node's own cotangent first, if the objective uses the node.
        """
        if name in self._cotangents:
            cotangent = part.of(self._cotangents[name][None]).astype(self._network.number_type)
            g = cotangent if g is None else g + cotangent
        if g is None or name not in self._tape.signs:
            return g
        return jnp.where(part.of(self._tape.signs[name]), g, jnp.zeros_like(g))

    def _through_average(self, node: AvgPool, part: Part, g: jax.Array) -> jax.Array:
        """Return the gradient of the inputs of an average pool, as many as its outputs."""
        counts = [
            lax.dynamic_slice(jnp.asarray(count), (start,), (length,))
            for count, start, length in zip(neighbours(node, self._sizes[node.name]), part.start, part.size, strict=True)
        ]
        return average_pool_back(node, counts, wide(g)).astype(g.dtype)

    def _through_block(self, block: InceptionBlock, inputs: Part, g: jax.Array | None) -> jax.Array | None:
        """Return the gradient of a part of a block's inputs: the sum over its branches."""
        ends = np.cumsum([self._layer(branch[-1]).channels for branch in block.branches])[:-1].tolist()
        shares = [None] * len(block.branches) if g is None else jnp.split(g, ends, axis=-1)
        input_gradients, head_gradients, kernels = [], [], []
        for branch, share in zip(block.branches, shares, strict=True):
            head = head_of(branch, tuple(self._cotangents))
            if head is None:
                input_gradients.append(self._through_branch(branch, inputs, share))
                continue
            head_gradient = self._through_head(head, inputs, self._through_branch(branch[head.length :], inputs, share))
            if head_gradient is not None:
                head_gradients.append(head_gradient)
                kernels.append(mixing_weights(self._kernel(head.conv)))
        if head_gradients:
            # The forward pass computes them as one product too.
            joined = jnp.concatenate(head_gradients, axis=-1), jnp.concatenate(kernels, axis=1)
            input_gradients.append(mix_back(*joined, self._network.products))
        gradients = [gradient for gradient in input_gradients if gradient is not None]
        return sum(gradients[1:], gradients[0]) if gradients else None

    def _through_head(self, head: Head, part: Part, g: jax.Array | None) -> jax.Array | None:
        """Return the gradient of a head's outputs, before it is multiplied by the 1x1 kernel."""
        g = self._before_relu(head.conv.name, part, g)
        return g if g is None or head.pool is None else self._through_average(head.pool, part, g)

    def _through_branch(self, branch: Sequence[Node], inputs: Part, g: jax.Array | None) -> jax.Array | None:
        """Return the gradient of a part of the inputs of consecutive nodes."""
        parts = [inputs]
        for node in branch:
            start, size = parts[-1]
            stride = node_stride(node)
            parts.append(Part((start[0] // stride, start[1] // stride), output_size(node, size)))
        for node, before, after in reversed(list(zip(branch, parts[:-1], parts[1:], strict=True))):
            g = self.through(node, after, before, g)
        return g

    def _kernel(self, node: Conv) -> jax.Array:
        return self._network.convolutions[node.name].kernel[...]

    def _layer(self, node: Node) -> Layer:
        return self._network.architecture.layer(node.name)
