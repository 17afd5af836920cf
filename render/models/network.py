"""An `Architecture` as a Flax NNX module: parameters in, named activations out.

Padding is explicit everywhere: XLA's `SAME` pads odd and even sizes differently at stride 2, which would make tiles
disagree with the whole picture.

A network computes in float32 or, faster on accelerators, in bfloat16: pixels are brought to its range in float32, then what
convolutions and pools take and give has 8 bits of mantissa. What they add up on the way has 24: matrix units accumulate
products so, and where an operation would not, it is asked to. Activations leave in float32 either way.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from render.models.architecture import (
    Architecture,
    AvgPool,
    Block,
    Conv,
    LocalResponseNorm,
    MaxPool,
    Node,
    Preprocess,
)
from render.models.operations import (
    average_pool,
    convolve,
    is_mix,
    local_response_norm,
    max_pool,
    mix,
    wide,
    winners,
)
from render.models.residuals import materialized


class ConvParameters(nnx.Module):
    """Weights of one convolution: `kernel` (rows, columns, in, out) and `bias` (out,), the bias always float32."""

    def __init__(self, kernel: jax.Array, bias: jax.Array) -> None:
        self.kernel = nnx.Param(kernel)
        self.bias = nnx.Param(bias)


class Tape(NamedTuple):
    """What a forward pass leaves for the gradient, by the name of the node at which it is met on the way back.

    `signs`: where the ReLU after a node gives more than 0, or no number: bool. `winners`: those of a pool, as
    `render.models.operations` finds them. `normed`: the input of a response norm. All (1, rows, columns, channels).
    """

    signs: dict[str, jax.Array]
    winners: dict[str, jax.Array]
    normed: dict[str, jax.Array]


class Head(NamedTuple):
    """A 1x1 convolution that a branch begins with, if need be after an average pool, and how many nodes that is."""

    conv: Conv
    pool: AvgPool | None
    length: int


def head_of(branch: Sequence[Node], wanted: Sequence[str]) -> Head | None:
    """None where a branch begins with something else, or what lies before the convolution is itself wanted."""
    match tuple(branch):
        case (Conv() as conv, *_) if is_mix(conv):
            return Head(conv, None, 1)
        case (AvgPool() as pool, Conv() as conv, *_) if is_mix(conv) and pool.name not in wanted:
            return Head(conv, pool, 2)
    return None


def _ends(kernels: Sequence[jax.Array]) -> list[int]:
    """Where each kernel's outputs end and the next one's begin."""
    return np.cumsum([kernel.shape[1] for kernel in kernels])[:-1].tolist()


class Network(nnx.Module):
    """Runs the nodes of an architecture on one window.

    `parameters` holds, for every name in `architecture.parameters()`, a float32 array of that shape; names beyond those
    are ignored, so that a truncated architecture loads from the whole network's weights. `rectify` is what follows every
    convolution, or the max pool after it: a ReLU, whose gradient may be another. `precision` is `float32` or `bfloat16`.
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
        #: What activations and weights are narrowed to; None leaves them as they are given.
        self._narrow = None if precision == "float32" else jnp.dtype(precision)
        self.convolutions = nnx.Dict(
            {
                layer.name: ConvParameters(
                    # OIHW, as weights are stored, to the HWIO that XLA's CPU and TPU backends prefer.
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
        """Activations of the named layers.

        `pixels`: (height, width, 3) float32 RGB, 0..255. Each value is (rows, columns, channels) float32, after ReLU.
        """
        return self._activations(pixels, layers, None)

    def taped(self, pixels: jax.Array, layers: Iterable[str]) -> tuple[dict[str, jax.Array], Tape]:
        """The same activations, and what `render.models.backward` needs to find their gradient: that of plain ReLUs."""
        tape = Tape({}, {}, {})
        return self._activations(pixels, layers, tape), tape

    def _activations(self, pixels: jax.Array, layers: Iterable[str], tape: Tape | None) -> dict[str, jax.Array]:
        wanted = tuple(layers)
        found: dict[str, jax.Array] = {}
        x = preprocess(pixels, self.architecture.preprocess)[None]
        x = x if self._narrow is None else x.astype(self._narrow)
        self._run(self.architecture.nodes, x, wanted, found, tape)
        # In the order asked for: the order of a set changes from process to process, and with it the compiled program.
        return {name: wide(found[name][0]) for name in wanted}

    @property
    def number_type(self) -> np.dtype:
        """Of activations inside."""
        return jnp.dtype(jnp.float32) if self._narrow is None else self._narrow

    def logits(self, pixels: jax.Array) -> jax.Array:
        """Class scores (classes,) before softmax, from the mean of the last layer's activations."""
        last = self.architecture.nodes[-1].name
        pooled = self(pixels, [last])[last].mean((0, 1))
        return pooled @ self.classifier.kernel[...] + self.classifier.bias[...]

    def _finished(self, y: jax.Array, node: Conv, tape: Tape | None, name: str) -> jax.Array:
        """What is left to do of a convolution: its bias and its ReLU. Signs go on the tape as those of the node `name`."""
        y = (wide(y) + self.convolutions[node.name].bias[...]).astype(y.dtype)
        if tape is None:
            return self._rectify(y)
        assert self._rectify is jax.nn.relu, "the way back knows no other gradient"
        y = jax.nn.relu(y)
        # True of what is no number, too: it must reach the gradient, where it is looked for.
        tape.signs[name] = materialized(lambda y: ~(y <= 0), y)
        return y

    def _run(
        self,
        nodes: Iterable[Node],
        x: jax.Array,
        wanted: tuple[str, ...],
        found: dict[str, jax.Array],
        tape: Tape | None,
    ) -> jax.Array:
        nodes, late = tuple(nodes), None
        for node, following in zip(nodes, (*nodes, None)[1:], strict=True):
            match node:
                case Conv():
                    x = convolve(x, self.convolutions[node.name].kernel[...], node)
                    if isinstance(following, MaxPool) and node.name not in wanted:
                        late = node
                    else:
                        x = self._finished(x, node, tape, node.name)
                case MaxPool():
                    if tape is not None:
                        tape.winners[node.name] = materialized(partial(winners, node), x)
                    x = max_pool(node, x)
                    if late is not None:
                        # A maximum and what never decreases may change places, and a pool leaves fewer values.
                        x, late = self._finished(x, late, tape, node.name), None
                case AvgPool():
                    x = average_pool(wide(x), node).astype(x.dtype)
                case LocalResponseNorm():
                    if tape is not None:
                        tape.normed[node.name] = x
                    x = local_response_norm(node, wide(x)).astype(x.dtype)
                case Block():
                    x = jnp.concatenate(self._branches(node, x, wanted, found, tape), axis=-1)
            if node.name in wanted:
                found[node.name] = x
        return x

    def _branches(
        self, block: Block, x: jax.Array, wanted: tuple[str, ...], found: dict[str, jax.Array], tape: Tape | None
    ) -> list[jax.Array]:
        """What each branch comes to. The 1x1 convolutions that they begin with are one: it reads the input once."""
        heads = [head_of(branch, wanted) for branch in block.branches]
        merged = [head for head in heads if head is not None]
        if not merged:
            return [self._run(branch, x, wanted, found, tape) for branch in block.branches]
        kernels = [self.convolutions[head.conv.name].kernel[...][0, 0] for head in merged]
        parts = iter(jnp.split(mix(x, jnp.concatenate(kernels, axis=1)), _ends(kernels), axis=-1))
        outputs = []
        for branch, head in zip(block.branches, heads, strict=True):
            if head is None:
                outputs.append(self._run(branch, x, wanted, found, tape))
                continue
            part = next(parts)
            if head.pool is not None:
                # A mean of positions and a mix of channels may change places, and the mix leaves fewer channels.
                part = average_pool(wide(part), head.pool).astype(x.dtype)
            y = self._finished(part, head.conv, tape, head.conv.name)
            if head.conv.name in wanted:
                found[head.conv.name] = y
            outputs.append(self._run(branch[head.length :], y, wanted, found, tape))
        return outputs


def class_scores(network: Network, pictures: Sequence[np.ndarray]) -> list[np.ndarray]:
    """`Network.logits` of each picture, (rows, columns, 3) float32 RGB 0..255: on the host, (classes,) float32."""
    # Merged inside, so that the weights are arguments of what is compiled and not constants in it.
    graph, state = nnx.split(network)
    scores = jax.jit(lambda state, pixels: nnx.merge(graph, state).logits(pixels))
    return [np.asarray(scores(state, picture)) for picture in pictures]


def preprocess(pixels: jax.Array, how: Preprocess) -> jax.Array:
    """RGB 0..255 to the network's input range; shape kept."""
    if how.order == "BGR":
        pixels = pixels[..., ::-1]
        return (pixels - jnp.asarray(how.mean[::-1], pixels.dtype)) / how.scale
    return (pixels - jnp.asarray(how.mean, pixels.dtype)) / how.scale
