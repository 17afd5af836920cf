"""`render.models` and `render.activations`: what networks there are, and what a layer makes of a picture."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from render.config.keywords import config_of
from render.dreaming.resample import resample_array
from render.errors import UserError
from render.geometry.geometry import whole
from render.networks.weights import MODELS, find_model, load
from render.source.source import open_source


@dataclass(frozen=True)
class LayerSummary:
    """A layer that can be dreamed of: its channels, and its stride and receptive field in px of the picture."""

    name: str
    kind: str
    channels: int
    stride: int
    receptive_field: int


def models() -> dict[str, tuple[LayerSummary, ...]]:
    """Return the layers of every network, from shallow to deep, by the network's name."""
    return {
        name: tuple(
            LayerSummary(layer.name, layer.kind.lower(), layer.channels, layer.stride, layer.receptive_field)
            for layer in model.architecture.layers.values()
        )
        for name, model in MODELS.items()
    }


def activations(
    image: str | os.PathLike[str] | Image.Image | NDArray[Any],
    layer: str,
    *,
    model: str = "inception_v3",
    weights: str | os.PathLike[str] | None = None,
    width: int | None = None,
) -> NDArray[np.float32]:
    """Return what a layer makes of a picture, seen whole: (rows, columns, channels) float32, after ReLU.

    Args:
        image: A path, `sample:NAME`, a Pillow picture, or an array (height, width, 3) of RGB values 0..255.
        layer: A layer of the network; `render.models()` has their names.
        model: The network's name.
        weights: A file of weights instead of the published ones.
        width: Width at which the picture is looked at, px; None takes its own.

    Raises:
        UserError: For no such picture, layer, network or weights.
    """
    architecture = find_model(model).architecture
    architecture.layer(layer)
    pixels = _pixels(image, width)
    loaded = load(model, None if weights is None else Path(os.fspath(weights)))

    # Imported late: JAX takes a second, and words that cannot work are refused before.
    import jax.numpy as jnp

    from render.networks.network import Network

    network = Network(architecture.truncated([layer]), loaded.parameters)
    return np.asarray(network(jnp.asarray(pixels), [layer])[layer], np.float32)


def _pixels(image: str | os.PathLike[str] | Image.Image | NDArray[Any], width: int | None) -> NDArray[np.float32]:
    """Return the picture's pixels: (height, width, 3) float32 RGB, 0..255."""
    if isinstance(image, Image.Image):
        image = np.asarray(image.convert("RGB"))
    if isinstance(image, np.ndarray):
        if image.ndim != 3 or image.shape[2] != 3 or not image.size:
            raise UserError(f"an array of shape {image.shape} is no picture: give (height, width, 3)")
        pixels = image.astype(np.float32)
        if width is None or width == pixels.shape[1]:
            return pixels
        return resample_array(pixels, (max(1, round(pixels.shape[0] * width / pixels.shape[1])), width))
    config = config_of("preview", {"image": os.fspath(image)})
    source = open_source(config.image, config.seed, config.source)
    if source.size is None:
        raise UserError(f"image={config.image} has no size of its own: give a picture")
    height, full = source.size
    shape = (height, full) if width is None else (max(1, round(height * width / full)), width)
    source.prepare(shape)
    return np.asarray(source.at(shape, whole(*shape)), np.float32)
