"""Figures that the planner derives from the networks' nodes: receptive fields, sizes, parameters."""

from __future__ import annotations

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from render.errors import UserError
from render.networks.architecture import Architecture, Layer
from render.networks.googlenet import GOOGLENET
from render.networks.inception_v3 import INCEPTION_V3, INCEPTION_V3_KERAS
from render.networks.network import Network
from render.networks.nodes import Conv, InceptionBlock, MaxPool, Node, window_output

FIELDS = {
    "googlenet": {"3a": 59, "3b": 91, "4a": 171, "4b": 235, "4c": 299, "4d": 363, "4e": 427, "5a": 587, "5b": 715},
    "inception_v3": dict(enumerate((63, 95, 127, 159, 351, 543, 735, 927, 1055, 1183, 1311))),
}


@pytest.mark.parametrize("block", FIELDS["googlenet"])
def test_googlenet_receptive_fields(block: str) -> None:
    assert GOOGLENET.layer(f"inception_{block}").receptive_field == FIELDS["googlenet"][block]


@pytest.mark.parametrize("block", FIELDS["inception_v3"])
def test_inception_v3_receptive_fields(block: int) -> None:
    assert INCEPTION_V3.layer(f"mixed{block}").receptive_field == FIELDS["inception_v3"][block]
    assert INCEPTION_V3_KERAS.layer(f"mixed{block}").receptive_field == FIELDS["inception_v3"][block]


def narrow(nodes: tuple[Node, ...]) -> tuple[Node, ...]:
    """Return nodes of a sixteenth of the channels: what a layer sees depends on kernels, strides and paddings alone."""

    def narrowed(node: Node) -> Node:
        match node:
            case Conv():
                return replace(node, features=max(node.features // 16, 1))
            case InceptionBlock():
                return replace(node, branches=tuple(map(narrow, node.branches)))
        return node

    return tuple(map(narrowed, nodes))


def averaging_network(architecture: Architecture) -> Network:
    """Return the network with random positive weights that average.

    ReLUs cut nothing off, and every input counts.
    """
    random = np.random.default_rng(7)
    parameters = {}
    for name, shape in architecture.parameters().items():
        if name.endswith("weight"):
            weight = random.uniform(0.5, 1.5, shape)
            parameters[name] = weight / weight.sum(axis=(1, 2, 3), keepdims=True)
        else:
            parameters[name] = np.zeros(shape)
    return Network(architecture, parameters)


@pytest.mark.slow
@pytest.mark.parametrize(("architecture", "axis"), [(GOOGLENET, 1), (INCEPTION_V3, 1), (INCEPTION_V3, 0)])
def test_receptive_field_is_the_support_of_the_gradient(architecture: Architecture, axis: int) -> None:
    """One activation's gradient is nonzero at both ends of its field and zero beyond.

    A bright line at that end makes every max pool choose it, so the gradient must arrive there. In float64, because deep
    layers depend little on one line.
    """
    with jax.enable_x64(True):
        check_support(architecture, axis)


def check_support(architecture: Architecture, axis: int) -> None:
    fields = {name: layer.axis_fields for name, layer in architecture.layers.items()}
    preprocess = replace(architecture.preprocess, mean=(0.0, 0.0, 0.0), scale=1.0)
    architecture = replace(architecture, classes=0, preprocess=preprocess, nodes=narrow(architecture.nodes))
    network = averaging_network(architecture)
    layers = [layer for layer in architecture.layers.values() if layer.kind == "block"]
    names = [layer.name for layer in layers]
    length = 1472
    shape = (80, length, 3) if axis == 1 else (length, 80, 3)

    @jax.jit
    def gradient(pixels: jax.Array, cotangents: dict[str, jax.Array]) -> jax.Array:
        _, pullback = jax.vjp(lambda p: network(p, names), pixels)
        return pullback(cotangents)[0]

    outputs = jax.eval_shape(lambda p: network(p, names), jnp.zeros(shape))
    zeros = {name: jnp.zeros(output.shape) for name, output in outputs.items()}

    def lines_reached(layer: Layer, unit: int, bright: int) -> np.ndarray:
        pixels = np.full(shape, 1e-3)
        np.moveaxis(pixels, axis, 0)[bright] += 100
        cotangent = np.moveaxis(np.zeros(outputs[layer.name].shape), axis, 0)
        cotangent[unit] = 1
        result = gradient(jnp.asarray(pixels), {**zeros, layer.name: jnp.asarray(np.moveaxis(cotangent, 0, axis))})
        return np.flatnonzero(np.abs(np.asarray(result)).sum((1 - axis, 2)))

    for layer in layers:
        span = fields[layer.name][axis]
        unit = round((length / 2 - (span.low + span.high) / 2) / span.stride)
        first, last = unit * span.stride + span.low, unit * span.stride + span.high
        assert 0 <= first <= last < length
        assert lines_reached(layer, unit, first).min() == first, layer.name
        assert lines_reached(layer, unit, last).max() == last, layer.name


def test_truncation_stops_at_the_deepest_layer_and_keeps_what_it_computes(inception_network, inception) -> None:
    short = inception.architecture.truncated(["mixed0/branch5x5_1", "conv2d_2b_3x3"])
    assert short.nodes[-1].name == "mixed0"
    pixels = jnp.asarray(np.random.default_rng(0).uniform(0, 255, (96, 90, 3)), jnp.float32)
    full = inception_network(pixels, ["conv2d_2b_3x3"])["conv2d_2b_3x3"]
    cut = Network(short, inception.parameters)(pixels, ["conv2d_2b_3x3"])["conv2d_2b_3x3"]
    np.testing.assert_array_equal(full, cut)


def test_every_convolution_is_addressable() -> None:
    assert GOOGLENET.layer("inception_4c/3x3").channels == 256
    assert INCEPTION_V3.layer("mixed5/branch7x7dbl_3").receptive_field > INCEPTION_V3.layer("mixed4").receptive_field
    convolutions = [layer for layer in GOOGLENET.layers.values() if layer.kind == "conv"]
    assert len(convolutions) == 57
    assert len([layer for layer in INCEPTION_V3.layers.values() if layer.kind == "conv"]) == 94


def test_unknown_layer_suggests_the_nearest() -> None:
    with pytest.raises(UserError, match=r"no layer 'inception_4g'.*inception_4"):
        GOOGLENET.layer("inception_4g")


@pytest.mark.parametrize("architecture", [GOOGLENET, INCEPTION_V3])
@pytest.mark.parametrize("shape", [(75, 75), (76, 131), (224, 299), (97, 83)])
def test_derived_sizes_are_those_computed(architecture: Architecture, shape: tuple[int, int]) -> None:
    parameters = {name: np.zeros(size, np.float32) for name, size in architecture.parameters().items()}
    network = Network(architecture, parameters)
    computed = jax.eval_shape(lambda p: network(p, architecture.layers), jnp.zeros((*shape, 3)))
    derived = architecture.output_sizes(*shape)
    assert {name: (*derived[name], layer.channels) for name, layer in architecture.layers.items()} == {
        name: output.shape for name, output in computed.items()
    }


def test_smallest_input_is_the_smallest() -> None:
    for architecture in (GOOGLENET, INCEPTION_V3):
        side = architecture.smallest_input()
        assert min(min(size) for size in architecture.output_sizes(side, side).values()) == 1
        assert min(min(size) for size in architecture.output_sizes(side - 1, side - 1).values()) < 1


def test_caffe_drops_a_last_window_that_starts_in_the_padding() -> None:
    pool = MaxPool("pool", 3, 2, padding=1, ceil=True)
    assert [window_output(length, pool, 0) for length in (3, 4, 5, 6)] == [2, 3, 3, 4]
    assert window_output(2, MaxPool("pool", 2, 2, padding=1, ceil=True), 0) == 2
    assert window_output(1, MaxPool("pool", 2, 2, padding=1, ceil=True), 0) == 1


def test_gradient_flops_count_both_passes() -> None:
    single_layer = Architecture("one", (Conv("c", 8, (3, 3), padding=(1, 1)),), INCEPTION_V3.preprocess)
    assert single_layer.gradient_flops((10, 20), (10, 20)) == 2 * 2 * 10 * 20 * 8 * 3 * 9
