"""Shorthands of the `sweep` section: all layers, a layer's channels, a file of points."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from render.config.atlas_schema import chosen_channels
from render.config.compose import PATH_KEYS, SWEEP, refuse_unknown
from render.config.hydra_text import hydra_text, is_hydras, parsed_word
from render.config.yaml_files import UnsafeYaml, load_yaml, read_yaml_text
from render.errors import UserError
from render.networks.architecture import Architecture
from render.networks.nodes import InceptionBlock
from render.storage.url import SCHEMES
from render.storage.user_paths import user_path
from render.sweeps.axes.values import ValueText, labels, plain_text, value_of_name, value_of_text, values_of_word

#: Key whose values are layers and channels.
TERMS = "objective.terms"
#: Keys whose values are free text, which may look like a URL.
_TEXT_KEYS = ("name", "output.title", "output.author")


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


def read_points(path: str, groups: Mapping[str, Sequence[str]]) -> list[dict[str, ValueText]]:
    """Read the points that a YAML file lists, each a mapping of keys to values.

    Values are spelled as on the command line.

    Raises:
        UserError: For a file that is not such a list, and for unknown keys.
    """
    where = f"sweep.points={path}"
    try:
        points = load_yaml(read_yaml_text(user_path(path, "sweep.points")))
    except FileNotFoundError:
        raise UserError(f"{where}: there is no such file") from None
    except OSError as error:
        raise UserError(f"{where}: {error.strerror}") from None
    except UnsafeYaml as error:
        raise UserError(f"{where} is not valid YAML: {error}") from None
    if points is None or points == []:
        raise UserError(f"{where} lists no points: write one in a line, such as - {{step_size: 2}}")
    if not isinstance(points, list):
        raise UserError(f"{where} is no list of points: write one in a line, such as - {{step_size: 2}}")
    return [_point(point, f"{where}, point {number}", groups) for number, point in enumerate(points, start=1)]


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


def _point(entry: object, where: str, groups: Mapping[str, Sequence[str]]) -> dict[str, ValueText]:
    """Return the values of one entry in a file of points; errors begin with `where`."""
    if not isinstance(entry, dict) or not entry:
        raise UserError(f"{where} is no mapping of keys to values: write it as {{step_size: 2, seed: 1}}")
    point: dict[str, ValueText] = {}
    for key, value in entry.items():
        try:
            refuse_unknown(str(key), groups, SWEEP)
            text = value if isinstance(value, str) else plain_text(key, value)
            _refuse_references(key, text)
            if key in PATH_KEYS:
                point[key] = value_of_name(key, text)
                continue
            if values_of_word(key, text, groups) is not None:
                raise UserError(f"{key}={text} has several values: a point has one of each")
            point[key] = value_of_text(key, text)
        except UserError as error:
            raise UserError(f"{where}: {error}") from None
    return point


def _refuse_references(key: str, text: str) -> None:
    """Raise `UserError` for a value with a reference: the file may come from somebody else.

    References are `${...}`, in any spelling, and URLs of object stores.
    """
    value = text if key in PATH_KEYS and not is_hydras(text) else str(parsed_word(f"{key}={text}").value())
    if "${" in value and not (key in PATH_KEYS and not is_hydras(text)):
        raise UserError(f"{key}={text}: a file of points has values alone: write out what ${{...}} stands for")
    if key not in _TEXT_KEYS and any(f"{scheme}://" in value for scheme in SCHEMES):
        raise UserError(f"{key}={text}: a file of points names no URLs: bring the file, and name it here")
