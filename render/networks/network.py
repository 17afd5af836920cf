"""`Architecture` as a Flax NNX module: parameters in, named activations out.

Padding is explicit everywhere: XLA's `SAME` pads odd and even sizes differently at stride 2, so tiles would differ from the
whole picture.

A network computes in float32 or, faster on accelerators, in TensorFloat-32 or bfloat16. Pixels are scaled in float32. In
TensorFloat-32 only products differ: GPUs round their factors to 11 bits of mantissa. In bfloat16 the inputs and outputs of
convolutions and pools have 8 bits, and sums have 24: matrix units accumulate products so, and other operations are widened,
except off CPUs the addition of the bias. Activations are returned in float32 in all cases.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax import lax

from render.networks.architecture import Architecture
from render.networks.array_ops import wide
from render.networks.convolutions import EXACT, REDUCED, convolve, is_mix, mix, mixing_weights
from render.networks.network_state import State, by_layer, narrow_type, stored_state
from render.networks.nodes import AvgPool, Conv, InceptionBlock, LocalResponseNorm, MaxPool, Node, Preprocess
from render.networks.platforms import platform
from render.networks.pools import average_pool, max_pool, no_winner, winners
from render.networks.residuals import materialized
from render.networks.response_norm import local_response_norm


class ConvParameters(nnx.Module):
    """Weights of one convolution, or of the classifier.

    Attributes:
        kernel: Weights from `stored_kernel`, or (in, classes) of the classifier, in the network's number type.
        bias: (out,); float32 on CPUs and of the classifier, else in the network's number type.
    """

    def __init__(self, kernel: jax.Array, bias: jax.Array) -> None:
        self.kernel = nnx.Param(kernel)
        self.bias = nnx.Param(bias)


class Tape(NamedTuple):
    """Arrays that a forward pass stores for the gradient, by node name.

    All are (1, rows, columns, channels).

    Attributes:
        signs: True where the ReLU after the node is above 0 or not a number, bool.
        winners: Position of each maximum of a pool, as `render.networks.pools.winners` returns it; except on CPUs
            `no_winner` where a ReLU after the pool is 0.
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
            so a truncated architecture loads from the whole network's weights. Or a state of `stored_state`.
        rectify: Function applied after every convolution, or after the max pool that follows it: a ReLU, perhaps with
            another gradient.
        precision: One of `render.config.schema.PRECISIONS`.
    """

    def __init__(
        self,
        architecture: Architecture,
        parameters: Mapping[str, np.ndarray] | State,
        rectify: Callable[[jax.Array], jax.Array] = jax.nn.relu,
        precision: str = "float32",
    ) -> None:
        self.architecture = architecture
        self.precision = precision
        self._rectify = rectify
        #: Type that activations and weights are narrowed to; None keeps their own.
        self._narrow = narrow_type(precision)
        #: Precision of the products of convolutions.
        self.products = REDUCED if precision == "tensorfloat32" else EXACT
        state = parameters if isinstance(parameters, tuple) else stored_state(architecture, parameters, precision)
        arrays = by_layer(architecture, state)
        if architecture.classes:
            bias, kernel = arrays.pop(architecture.classifier)
            self.classifier = ConvParameters(kernel, bias)
        self.convolutions = nnx.Dict({name: ConvParameters(kernel, bias) for name, (bias, kernel) in arrays.items()})

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

    def separated(self) -> tuple[State, Callable[[State], Network]]:
        """Return the weights, and the function that returns the network with weights put back: see `separated`."""
        return separated(self)

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
        bias = self.convolutions[node.name].bias[...]
        y = y + bias if bias.dtype == y.dtype else (wide(y) + bias).astype(y.dtype)
        if tape is None:
            return self._rectify(y)
        assert self._rectify is jax.nn.relu, "the backward pass has the gradient of plain ReLUs only"
        y = jax.nn.relu(y)
        # Also True for NaN: it has to reach the gradient, where it is checked for.
        tape.signs[name] = materialized(lambda y: ~(y <= 0), y)
        return y

    def _pooled(self, node: MaxPool, x: jax.Array, conv: Conv | None, tape: Tape | None) -> jax.Array:
        """Return a max pool of `x`, and then the bias and the ReLU of a convolution that still lacks them, if there is one.

        Bias and ReLU commute with the maximum, and there are fewer values after the pool.
        """
        if tape is not None:
            tape.winners[node.name] = materialized(partial(winners, node), x)
        x = max_pool(node, x)
        if conv is None:
            return x
        x = self._rectified(x, conv, tape, node.name)
        if tape is not None and platform() != "cpu":
            # One array less to write and to read: maxima without a gradient win nowhere.
            is_positive, winner = tape.signs.pop(node.name), tape.winners[node.name]
            winner = jnp.where(is_positive, winner, no_winner(node))
            # Otherwise XLA may compute the winners later, from the pool's input read once more.
            x, tape.winners[node.name] = lax.optimization_barrier((x, winner))
        return x

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
                    x = convolve(x, self.convolutions[node.name].kernel[...], node, self.products)
                    if isinstance(following, MaxPool) and node.name not in output_layers:
                        pending_conv = node
                    else:
                        x = self._rectified(x, node, tape, node.name)
                case MaxPool():
                    x, pending_conv = self._pooled(node, x, pending_conv, tape), None
                case AvgPool():
                    x = average_pool(wide(x), node).astype(x.dtype)
                case LocalResponseNorm():
                    if tape is not None:
                        tape.normed[node.name] = x
                    x = local_response_norm(node, x)
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
        kernels = [mixing_weights(self.convolutions[head.conv.name].kernel[...]) for head in merged_heads]
        parts = iter(jnp.split(mix(x, jnp.concatenate(kernels, axis=1), self.products), _ends(kernels), axis=-1))
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


def separated(network: Network) -> tuple[State, Callable[[State], Network]]:
    """Return a network's weights, and the function that returns the network with weights put back.

    Compiled functions take the weights as an argument and call the function while they are traced: as constants in it,
    every program would hold a copy. They are a plain tuple, because JAX flattens an `nnx.State` in Python at every call.
    """
    graph, state = nnx.split(network)
    arrays, structure = jax.tree.flatten(state)
    return tuple(arrays), lambda arrays: nnx.merge(graph, jax.tree.unflatten(structure, arrays))


def class_scores(network: Network, pictures: Sequence[np.ndarray]) -> list[np.ndarray]:
    """Return `Network.logits` of each picture as host arrays, (classes,) float32.

    Args:
        network: A network with a classifier.
        pictures: Arrays of (rows, columns, 3) float32 RGB, 0..255.
    """
    state, merged = separated(network)
    scores = jax.jit(lambda state, pixels: merged(state).logits(pixels))
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
