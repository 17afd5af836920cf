"""Shorthands of the `sweep` section: all layers, a layer's channels, names of points."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from render.config.atlas_schema import chosen_channels
from render.config.hydra_text import hydra_text
from render.errors import UserError
from render.networks.architecture import Architecture
from render.networks.nodes import InceptionBlock
from render.sweeps.axes.values import ValueText, labels

#: Key whose values are layers and channels.
TERMS = "objective.terms"


def layer_values(layers: object, architecture: Architecture | None) -> list[ValueText]:
    """Return values of `objective.terms` with one layer each.

    Args:
        layers: `all` for every block of the network, or a list of layers, or text with commas.
        architecture: The network; None if the model is an axis itself.

    Raises:
        UserError: For `all` without an architecture, and for what is not a list of layers.
    """
    if layers == "all":
        if architecture is None:
            raise UserError("sweep.layers=all and an axis of models: all of which? List the layers, or sweep one model")
        layers = [node.name for node in architecture.nodes if isinstance(node, InceptionBlock)]
    if isinstance(layers, str):
        layers = layers.split(",")
    if not isinstance(layers, list) or not all(isinstance(layer, str) and layer.strip() for layer in layers):
        raise UserError(f"sweep.layers={layers}: must be all, or a list of layers such as [mixed3,mixed4]")
    return [ValueText(hydra_text([layer.strip()]), (layer.strip(),)) for layer in layers]


def channel_values(channels: str, architecture: Architecture | None) -> list[ValueText]:
    """Return values of `objective.terms` with one channel each.

    Args:
        channels: A layer for all its channels, such as `mixed4`, or some of them, such as `mixed4:0-63,70`.
        architecture: The network; None if the model is an axis itself.

    Raises:
        UserError: For layers and channels that the network does not have, and without an architecture.
    """
    if architecture is None:
        raise UserError(f"sweep.channels={channels} and an axis of models: channels of which? Sweep one model")
    name, colon, ranges = channels.partition(":")
    layer = architecture.layer(name.strip())
    try:
        numbers = chosen_channels(ranges if colon else None, layer.name, layer.channels)
    except UserError as error:
        raise UserError(f"sweep.channels={channels}: {str(error).partition(': ')[2] or error}") from None
    return [ValueText(hydra_text([f"{layer.name}:{channel}"]), (str(channel),)) for channel in numbers]


def point_names(points: Sequence[Mapping[str, ValueText]]) -> list[str]:
    """Return a name for each point, from the values of the keys in which points differ."""
    keys = list(dict.fromkeys(key for point in points for key in point))
    names_by_key: dict[str, dict[str, str]] = {}
    for key in keys:
        values = {point[key].text: point[key] for point in points if key in point}
        if len(values) > 1 or not all(key in point for point in points):
            names_by_key[key] = dict(zip(values, labels(list(values.values())), strict=True))
    names_by_key = names_by_key or {key: {points[0][key].text: labels([points[0][key]])[0]} for key in keys}

    def name(point: Mapping[str, ValueText]) -> str:
        return " ".join(
            f"{key.rpartition('.')[2]}={names_by_key[key][point[key].text]}" for key in point if key in names_by_key
        )

    return [name(point) or "as it is" for point in points]
