"""Weights of a network as a tuple of arrays on a device, without Flax."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from render.networks.architecture import Architecture
from render.networks.convolutions import stored_kernel
from render.networks.nodes import Conv
from render.networks.platforms import platform

#: Arrays of a network's weights: the bias and the kernel of each layer, in the order of `weighted_layers`.
State = tuple[jax.Array, ...]


def weighted_layers(architecture: Architecture) -> list[str]:
    """Return the names of the layers that have weights: the classifier, if there is one, and the convolutions, sorted."""
    convolutions = sorted(layer.name for layer in architecture.layers.values() if isinstance(layer.node, Conv))
    return [*([architecture.classifier] if architecture.classes else []), *convolutions]


def narrow_type(precision: str) -> np.dtype | None:
    """Return the type that activations and weights are narrowed to; None if they keep their own."""
    return jnp.dtype(precision) if precision == "bfloat16" else None


def stored_state(architecture: Architecture, parameters: Mapping[str, np.ndarray], precision: str) -> State:
    """Return the weights as the network's layers read them, on the device.

    Args:
        architecture: The network's nodes.
        parameters: A float32 array for every name in `architecture.parameters()`; other names are ignored.
        precision: One of `render.config.schema.PRECISIONS`.
    """
    return tuple(jax.device_put(array) for array in _host_arrays(architecture, parameters, narrow_type(precision)))


def _host_arrays(
    architecture: Architecture, parameters: Mapping[str, np.ndarray], narrow: np.dtype | None
) -> Iterator[np.ndarray]:
    """Yield the arrays of a state."""
    # cuDNN adds a bias inside the convolution only if it has the type of the activations.
    bias_type = None if platform() == "cpu" else narrow
    for name in weighted_layers(architecture):
        weight, bias = parameters[f"{name}/weight"], parameters[f"{name}/bias"]
        if name == architecture.classifier:
            yield bias
            yield np.ascontiguousarray(weight.T)
        else:
            yield np.asarray(bias, bias_type)
            yield np.ascontiguousarray(stored_kernel(weight), narrow)


def by_layer(architecture: Architecture, state: State) -> dict[str, tuple[Any, Any]]:
    """Return the bias and the kernel of each layer in a state."""
    return dict(zip(weighted_layers(architecture), zip(state[::2], state[1::2], strict=True), strict=True))
