"""`Architecture` as a Flax NNX module: parameters in, named activations out.

Padding is explicit everywhere: XLA's `SAME` pads odd and even sizes differently at stride 2, so tiles would differ from the
whole picture.

A network computes in float32 or, faster on accelerators, in bfloat16. Pixels are scaled in float32. Then the inputs and
outputs of convolutions and pools have 8 bits of mantissa, and sums have 24: matrix units accumulate products so, and other
operations are widened. Activations are returned in float32 in both cases.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from render.networks.architecture import Architecture
from render.networks.array_ops import wide
from render.networks.convolutions import convolve, is_mix, mix
from render.networks.nodes import AvgPool, Conv, InceptionBlock, LocalResponseNorm, MaxPool, Node, Preprocess
from render.networks.pools import average_pool, max_pool, winners
from render.networks.residuals import materialized
from render.networks.response_norm import local_response_norm


class ConvParameters(nnx.Module):
    """Weights of one convolution, or of the classifier.

    Attributes:
        kernel: (rows, columns, in, out), or (in, classes) of the classifier, in the network's number type.
        bias: (out,) float32.
    """

    def __init__(self, kernel: jax.Array, bias: jax.Array) -> None:
        self.kernel = nnx.Param(kernel)
        self.bias = nnx.Param(bias)


class Tape(NamedTuple):
    """Arrays that a forward pass stores for the gradient, by node name.

    All are (1, rows, columns, channels).

    Attributes:
        signs: True where the ReLU after the node is above 0 or not a number, bool.
        winners: Position of each maximum of a pool, as `render.networks.pools.winners` returns it.
        normed: Input of a response norm.
    """

    signs: dict[str, jax.Array]
    winners: dict[str, jax.Array]
    normed: dict[str, jax.Array]


class Head(NamedTuple):
    """Start of a branch: a 1x1 convolution, perhaps after an average pool."""

    conv: Conv
    pool: AvgPool | None
    #: Number of these nodes: 1 or 2.
    length: int


def head_of(branch: Sequence[Node], output_layers: Sequence[str]) -> Head | None:
    """Return the head of a branch, or None if it has none.

    It has none if it starts with another node, or if the pool is one of `output_layers`, whose activations are needed.
    """
    match tuple(branch):
        case (Conv() as conv, *_) if is_mix(conv):
            return Head(conv, None, 1)
        case (AvgPool() as pool, Conv() as conv, *_) if is_mix(conv) and pool.name not in output_layers:
            return Head(conv, pool, 2)
    return None


def _ends(kernels: Sequence[jax.Array]) -> list[int]:
    """Return the channels at which the concatenated outputs of kernels (in, out) are split."""
    return np.cumsum([kernel.shape[1] for kernel in kernels])[:-1].tolist()


class Network(nnx.Module):
    """Network that runs the nodes of an architecture on one window.

    Args:
        architecture: The network's nodes.
        parameters: A float32 array for every name in `architecture.parameters()`, of that shape. Other names are ignored,
            so a truncated architecture loads from the whole network's weights.
        rectify: Function applied after every convolution, or after the max pool that follows it: a ReLU, perhaps with
            another gradient.
        precision: `float32` or `bfloat16`.
    """

    def __init__(
        self,
        architecture: Architecture,
        parameters: Mapping[str, np.ndarray],
        rectify: Callable[[jax.Array], jax.Array] = jax.nn.relu,
        precision: str = "float32",
    ) -> None:
        self.architecture = architecture
        self._rectify = rectify
        #: Type that activations and weights are narrowed to; None keeps their own.
        self._narrow = None if precision == "float32" else jnp.dtype(precision)
        self.convolutions = nnx.Dict(
            {
                layer.name: ConvParameters(
                    # Stored weights are OIHW; XLA's CPU and TPU backends prefer HWIO.
                    jax.device_put(
                        np.ascontiguousarray(parameters[f"{layer.name}/weight"].transpose(2, 3, 1, 0), self._narrow)
                    ),
                    jax.device_put(parameters[f"{layer.name}/bias"]),
                )
                for layer in architecture.layers.values()
                if isinstance(layer.node, Conv)
            }
        )
        if architecture.classes:
            self.classifier = ConvParameters(
                jax.device_put(np.ascontiguousarray(parameters[f"{architecture.classifier}/weight"].T)),
                jax.device_put(parameters[f"{architecture.classifier}/bias"]),
            )

    def __call__(self, pixels: jax.Array, layers: Iterable[str]) -> dict[str, jax.Array]:
        """Return the activations of the named layers.

        Args:
            pixels: (height, width, 3) float32 RGB, 0..255.
            layers: Names of layers.

        Returns:
            (rows, columns, channels) float32 for each layer, after ReLU.
        """
        return self._activations(pixels, layers, None)

    def taped(self, pixels: jax.Array, layers: Iterable[str]) -> tuple[dict[str, jax.Array], Tape]:
        """Return the activations as a call does, and the tape for `backward.core_gradient`.

        The gradient is that of plain ReLUs.
        """
        tape = Tape({}, {}, {})
        return self._activations(pixels, layers, tape), tape

    def _activations(self, pixels: jax.Array, layers: Iterable[str], tape: Tape | None) -> dict[str, jax.Array]:
        """Return the activations of the named layers, and fill the tape if there is one."""
        layer_names = tuple(layers)
        activations: dict[str, jax.Array] = {}
        x = preprocess(pixels, self.architecture.preprocess)[None]
        x = x if self._narrow is None else x.astype(self._narrow)
        self._run(self.architecture.nodes, x, layer_names, activations, tape)
        # Keep the order of `layers`: an order that changes from process to process would change the compiled program.
        return {name: wide(activations[name][0]) for name in layer_names}

    @property
    def number_type(self) -> np.dtype:
        """Type of the activations inside the network."""
        return jnp.dtype(jnp.float32) if self._narrow is None else self._narrow

    def logits(self, pixels: jax.Array) -> jax.Array:
        """Return the class scores before softmax, from the mean of the last layer's activations.

        Args:
            pixels: (height, width, 3) float32 RGB, 0..255.

        Returns:
            (classes,) float32.
        """
        last = self.architecture.nodes[-1].name
        pooled = self(pixels, [last])[last].mean((0, 1))
        return pooled @ self.classifier.kernel[...] + self.classifier.bias[...]

    def _rectified(self, y: jax.Array, node: Conv, tape: Tape | None, name: str) -> jax.Array:
        """Return `y` with the bias of a convolution and the ReLU applied.

        With a tape, store the signs on it under `name`.
        """
        y = (wide(y) + self.convolutions[node.name].bias[...]).astype(y.dtype)
        if tape is None:
            return self._rectify(y)
        assert self._rectify is jax.nn.relu, "the backward pass has the gradient of plain ReLUs only"
        y = jax.nn.relu(y)
        # Also True for NaN: it has to reach the gradient, where it is checked for.
        tape.signs[name] = materialized(lambda y: ~(y <= 0), y)
        return y

    def _run(
        self,
        nodes: Iterable[Node],
        x: jax.Array,
        output_layers: tuple[str, ...],
        activations: dict[str, jax.Array],
        tape: Tape | None,
    ) -> jax.Array:
        """Return the output of consecutive nodes for an input `x`, (1, rows, columns, channels).

        Args:
            nodes: The nodes.
            x: Input of the first node.
            output_layers: Names of the layers whose activations are needed.
            activations: Receives these activations by name.
            tape: Receives what the gradient needs, unless it is None.
        """
        nodes, pending_conv = tuple(nodes), None
        for node, following in zip(nodes, (*nodes, None)[1:], strict=True):
            match node:
                case Conv():
                    x = convolve(x, self.convolutions[node.name].kernel[...], node)
                    if isinstance(following, MaxPool) and node.name not in output_layers:
                        pending_conv = node
                    else:
                        x = self._rectified(x, node, tape, node.name)
                case MaxPool():
                    if tape is not None:
                        tape.winners[node.name] = materialized(partial(winners, node), x)
                    x = max_pool(node, x)
                    if pending_conv is not None:
                        # Bias and ReLU commute with the maximum, and there are fewer values after the pool.
                        x, pending_conv = self._rectified(x, pending_conv, tape, node.name), None
                case AvgPool():
                    x = average_pool(wide(x), node).astype(x.dtype)
                case LocalResponseNorm():
                    if tape is not None:
                        tape.normed[node.name] = x
                    x = local_response_norm(node, wide(x)).astype(x.dtype)
                case InceptionBlock():
                    x = jnp.concatenate(self._branches(node, x, output_layers, activations, tape), axis=-1)
            if node.name in output_layers:
                activations[node.name] = x
        return x

    def _branches(
        self,
        block: InceptionBlock,
        x: jax.Array,
        output_layers: tuple[str, ...],
        activations: dict[str, jax.Array],
        tape: Tape | None,
    ) -> list[jax.Array]:
        """Return the output of each branch of a block; the arguments are those of `_run`.

        The 1x1 convolutions at the starts of branches run as one, which reads the input once.
        """
        heads = [head_of(branch, output_layers) for branch in block.branches]
        merged_heads = [head for head in heads if head is not None]
        if not merged_heads:
            return [self._run(branch, x, output_layers, activations, tape) for branch in block.branches]
        kernels = [self.convolutions[head.conv.name].kernel[...][0, 0] for head in merged_heads]
        parts = iter(jnp.split(mix(x, jnp.concatenate(kernels, axis=1)), _ends(kernels), axis=-1))
        outputs = []
        for branch, head in zip(block.branches, heads, strict=True):
            if head is None:
                outputs.append(self._run(branch, x, output_layers, activations, tape))
                continue
            part = next(parts)
            if head.pool is not None:
                # An average over positions commutes with a 1x1 convolution, which leaves fewer channels.
                part = average_pool(wide(part), head.pool).astype(x.dtype)
            y = self._rectified(part, head.conv, tape, head.conv.name)
            if head.conv.name in output_layers:
                activations[head.conv.name] = y
            outputs.append(self._run(branch[head.length :], y, output_layers, activations, tape))
        return outputs


def class_scores(network: Network, pictures: Sequence[np.ndarray]) -> list[np.ndarray]:
    """Return `Network.logits` of each picture as host arrays, (classes,) float32.

    Args:
        network: A network with a classifier.
        pictures: Arrays of (rows, columns, 3) float32 RGB, 0..255.
    """
    # Merge inside the compiled function, so that the weights are its arguments and not constants in it.
    graph, state = nnx.split(network)
    scores = jax.jit(lambda state, pixels: nnx.merge(graph, state).logits(pixels))
    return [np.asarray(scores(state, picture)) for picture in pictures]


def preprocess(pixels: jax.Array, settings: Preprocess) -> jax.Array:
    """Return pixels in the network's input range and channel order: (pixel - mean) / scale.

    Args:
        pixels: (height, width, 3) RGB, 0..255.
        settings: Mean, scale and channel order.

    Returns:
        (height, width, 3) of the same type.
    """
    if settings.order == "BGR":
        pixels = pixels[..., ::-1]
        return (pixels - jnp.asarray(settings.mean[::-1], pixels.dtype)) / settings.scale
    return (pixels - jnp.asarray(settings.mean, pixels.dtype)) / settings.scale
