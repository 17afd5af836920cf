"""Where the time of a kernel goes, by layer, against the rate at which this machine multiplies matrices.

Every node of the network up to `layer` runs alone, through `Network` itself, on noise of the shape that it has in a window:
forward, and forward with the gradient of its input. First the network's own nodes, whole blocks among them; then, on lines
that begin with a dash, what blocks are made of, nodes of one kind, size and resolution together. `lost` is the time beyond
what the same arithmetic takes as a product of two square float32 matrices in the same run (sgemm): for nodes without
arithmetic worth the name, all of it. `share` is of all nodes' time, each differentiated by JAX; the kernel as a whole, as
renders have it, is on the last line, and can take less, since XLA fuses across nodes, or more, since caches are shared.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from statistics import median

import jax
import jax.numpy as jnp
import numpy as np

from render.dreaming.objectives import KernelInputs
from render.farm.worker.process import use_compilation_cache
from render.geometry.geometry import KernelShape
from render.networks.architecture import Architecture, Layer, derive_layers
from render.networks.network import Network
from render.networks.nodes import Conv, InceptionBlock, Node, Preprocess
from tests.benchmarks.device import kernel_of
from tests.benchmarks.others import Others
from tests.benchmarks.table import Table, interleaved
from tests.benchmarks.trained import missing, trained

LAYERS = {"inception_v3": "mixed5", "googlenet": "inception_4c"}


@dataclass(frozen=True)
class Part(Architecture):
    """One node as a network of its own, whose pixels have as many channels as the node's input."""

    channels: int = 3

    @classmethod
    def of(cls, layer: Layer) -> Part:
        return cls(layer.name, (layer.node,), Preprocess((0.0,) * layer.in_channels, 1.0), channels=layer.in_channels)

    @cached_property
    def layers(self) -> dict[str, Layer]:
        return derive_layers(self.name, self.nodes, self.channels)


@dataclass(frozen=True)
class Timing:
    """What a node takes in a window: s, and floating-point operations of one direction."""

    layer: Layer
    forward: float
    both: float
    flops: float


def measure(quick: bool) -> Table:
    use_compilation_cache()
    others = Others()
    side, rounds = (96, 1) if quick else (512, 3)
    layers = {"inception_v3": "mixed0"} if quick else LAYERS
    product = _product_rate(256 if quick else 2048, rounds)
    rows: list[dict[str, str | float]] = []
    for model, layer in layers.items():
        if missing(model) is None:
            rows += _rows(model, layer, side, rounds, product)
    columns = ("model", "node", "forward ms", "backward ms", "share %", "GFLOP/s", "of sgemm %", "lost ms")
    title = f"Time of each node in a window of {side} x {side} px; sgemm {product / 1e9:.0f} GFLOP/s"
    return Table("layers", title, columns, rows, {}, (*filter(None, map(missing, layers)), others.note))


def _rows(model: str, layer: str, side: int, rounds: int, product: float) -> list[dict[str, str | float]]:
    loaded = trained(model)
    architecture = loaded.architecture.truncated([layer])
    sizes = dict(input_sizes(architecture.nodes, (side, side), architecture.output_sizes(side, side)))

    # Nodes of one kind, shape and resolution take the same time: each is measured once.
    known: dict[object, Timing] = {}

    def timing(name: str) -> Timing:
        found = architecture.layer(name)
        key = (
            (replace(found.node, name=""), found.in_channels, sizes[name])
            if not isinstance(found.node, InceptionBlock)
            else name
        )
        if key not in known:
            known[key] = _time(found, loaded.parameters, sizes[name], rounds)
        return replace(known[key], layer=found)

    outer = [timing(node.name) for node in architecture.nodes]
    total = sum(one.both for one in outer)
    rows = [_row(model, one.layer.name, [one], total, product) for one in outer]
    kinds: dict[str, list[Timing]] = {}
    for node in architecture.nodes:
        for inner in _inner(node):
            kinds.setdefault(_kind(architecture.layer(inner.name)), []).append(timing(inner.name))
    rows += sorted(
        (_row(model, f"- {len(members)} x {kind}", members, total, product) for kind, members in kinds.items()),
        key=lambda row: -float(row["lost ms"]),
    )
    kernel, shape = kernel_of(loaded, layer, "float32"), KernelShape((side, side), (side, side))
    pixels = np.random.default_rng(0).normal(128, 30, (side, side, 3)).clip(0, 255).astype(np.float32)
    seconds = median(interleaved({"": _timed(lambda: kernel(shape, pixels, KernelInputs(0, (1.0,)), (0, 0)))}, rounds)[""])
    flops = architecture.gradient_flops((side, side), (side, side)) / 2
    last = _row(model, "= the kernel", [Timing(architecture.layer(layer), 0.0, seconds, flops)], total, product)
    return [*rows, {name: value for name, value in last.items() if name not in ("forward ms", "backward ms")}]


def _row(model: str, what: str, members: list[Timing], total: float, product: float) -> dict[str, str | float]:
    forward, both = sum(one.forward for one in members), sum(one.both for one in members)
    flops = 2 * sum(one.flops for one in members)
    row: dict[str, str | float] = {
        "model": model,
        "node": what,
        "forward ms": 1e3 * forward,
        "backward ms": 1e3 * (both - forward),
        "share %": 100 * both / total,
        "lost ms": 1e3 * (both - flops / product),
    }
    return row | ({"GFLOP/s": flops / both / 1e9, "of sgemm %": 100 * flops / both / product} if flops else {})


def _time(layer: Layer, parameters: Mapping[str, np.ndarray], size: tuple[int, int], rounds: int) -> Timing:
    part = Part.of(layer)
    network = Network(part, parameters)

    def run(x: jax.Array) -> jax.Array:
        return network(x, [layer.name])[layer.name]

    def both(x: jax.Array, cotangent: jax.Array) -> tuple[jax.Array, jax.Array]:
        activations, pull = jax.vjp(run, x)
        return activations, pull(cotangent)[0]

    draw = np.random.default_rng(0)
    x = jnp.asarray(draw.normal(0, 1, (*size, layer.in_channels)), jnp.float32)
    forward, differentiated = jax.jit(run), jax.jit(both)
    cotangent = jnp.asarray(draw.normal(0, 1, forward(x).shape), jnp.float32)
    calls = {"forward": _timed(lambda: forward(x)), "both": _timed(lambda: differentiated(x, cotangent))}
    found = interleaved(calls, rounds)
    return Timing(layer, median(found["forward"]), median(found["both"]), part.gradient_flops(size, size) / 2)


def _timed(call: Callable[[], object], least: float = 0.03) -> Callable[[], float]:
    """A call that says how long `call` takes, s: the mean of as many as `least` seconds hold."""

    def timed() -> float:
        count, begun = 0, time.perf_counter()
        while (spent := time.perf_counter() - begun) < least or not count:
            jax.block_until_ready(call())
            count += 1
        return spent / count

    return timed


def _product_rate(side: int, rounds: int) -> float:
    """Floating-point operations a second of the product of two square matrices, float32."""
    matrix = jnp.asarray(np.random.default_rng(0).normal(size=(side, side)), jnp.float32)
    product = jax.jit(jnp.dot)
    return 2 * side**3 / median(interleaved({"": _timed(lambda: product(matrix, matrix))}, rounds)[""])


def _inner(node: Node) -> Iterator[Node]:
    """The nodes that compute inside a block, in order; none in another."""
    if isinstance(node, InceptionBlock):
        for branch in node.branches:
            for one in branch:
                yield from _inner(one) if isinstance(one, InceptionBlock) else (one,)


def _kind(layer: Layer) -> str:
    node = layer.node
    if isinstance(node, Conv):
        what = f"Conv {node.kernel[0]}x{node.kernel[1]}" + (f" stride {node.stride}" if node.stride > 1 else "")
    else:
        what = type(node).__name__
    return f"{what} at 1/{layer.stride}"


def input_sizes(
    nodes: tuple[Node, ...], size: tuple[int, int], outputs: Mapping[str, tuple[int, int]]
) -> Iterator[tuple[str, tuple[int, int]]]:
    """(rows, columns) of what every node is given."""
    for node in nodes:
        yield node.name, size
        if isinstance(node, InceptionBlock):
            for branch in node.branches:
                yield from input_sizes(branch, size, outputs)
        size = outputs[node.name]
