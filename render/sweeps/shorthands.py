"""Shorthands of the `sweep` section: all layers, a layer's channels, a file of points."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from render.config.atlas_schema import chosen_channels
from render.config.compose import PATH_KEYS, SWEEP, refuse_unknown
from render.config.hydra_text import hydra_text, is_hydras, parsed_word
from render.config.yaml_files import UnsafeYaml, load_yaml, read_yaml_text
from render.errors import UserError
from render.networks.architecture import Architecture, Block
from render.storage.url import SCHEMES
from render.storage.user_paths import user_path
from render.sweeps.values import Written, labels, of_name, of_text, plain_text, values_of_word

#: Key whose values are layers and channels.
TERMS = "objective.terms"
#: Keys whose values are free text, which may look like a URL.
_TEXTS = ("name", "output.title", "output.author")


def layer_values(given: object, architecture: Architecture | None) -> list[Written]:
    """Return values of `objective.terms` with one layer each.

    Args:
        given: `all` for every block of the network, or a list of layers, or text with commas.
        architecture: The network; None if the model is an axis itself.

    Raises:
        UserError: For `all` without an architecture, and for what is not a list of layers.
    """
    if given == "all":
        if architecture is None:
            raise UserError("sweep.layers=all and an axis of models: all of which? List the layers, or sweep one model")
        given = [node.name for node in architecture.nodes if isinstance(node, Block)]
    if isinstance(given, str):
        given = given.split(",")
    if not isinstance(given, list) or not all(isinstance(layer, str) and layer.strip() for layer in given):
        raise UserError(f"sweep.layers={given}: must be all, or a list of layers such as [mixed3,mixed4]")
    return [Written(hydra_text([layer.strip()]), (layer.strip(),)) for layer in given]


def channel_values(given: str, architecture: Architecture | None) -> list[Written]:
    """Return values of `objective.terms` with one channel each: all of `mixed4`, or those of `mixed4:0-63,70`.

    Raises:
        UserError: For layers and channels that the network does not have, and without an architecture.
    """
    if architecture is None:
        raise UserError(f"sweep.channels={given} and an axis of models: channels of which? Sweep one model")
    name, colon, ranges = given.partition(":")
    layer = architecture.layer(name.strip())
    try:
        chosen = chosen_channels(ranges if colon else None, layer.name, layer.channels)
    except UserError as error:
        raise UserError(f"sweep.channels={given}: {str(error).partition(': ')[2] or error}") from None
    return [Written(hydra_text([f"{layer.name}:{channel}"]), (str(channel),)) for channel in chosen]


def read_points(path: str, groups: Mapping[str, Sequence[str]]) -> list[dict[str, Written]]:
    """Read the points that a YAML file lists, each a mapping of keys to values; text is as on the command line.

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


def point_names(points: Sequence[Mapping[str, Written]]) -> list[str]:
    """Return a name for each point, from the values of the keys in which points differ."""
    keys = list(dict.fromkeys(key for point in points for key in point))
    names_by_key: dict[str, dict[str, str]] = {}
    for key in keys:
        values = {point[key].text: point[key] for point in points if key in point}
        if len(values) > 1 or not all(key in point for point in points):
            names_by_key[key] = dict(zip(values, labels(list(values.values())), strict=True))
    names_by_key = names_by_key or {key: {points[0][key].text: labels([points[0][key]])[0]} for key in keys}

    def name(point: Mapping[str, Written]) -> str:
        return " ".join(
            f"{key.rpartition('.')[2]}={names_by_key[key][point[key].text]}" for key in point if key in names_by_key
        )

    return [name(point) or "as it is" for point in points]


def _point(given: object, where: str, groups: Mapping[str, Sequence[str]]) -> dict[str, Written]:
    if not isinstance(given, dict) or not given:
        raise UserError(f"{where} is no mapping of keys to values: write it as {{step_size: 2, seed: 1}}")
    point: dict[str, Written] = {}
    for key, value in given.items():
        try:
            refuse_unknown(str(key), groups, SWEEP)
            text = value if isinstance(value, str) else plain_text(key, value)
            _refuse_references(key, text)
            if key in PATH_KEYS:
                point[key] = of_name(key, text)
                continue
            if values_of_word(key, text, groups) is not None:
                raise UserError(f"{key}={text} has several values: a point has one of each")
            point[key] = of_text(key, text)
        except UserError as error:
            raise UserError(f"{where}: {error}") from None
    return point


def _refuse_references(key: str, text: str) -> None:
    """Raise `UserError` for a value with a reference, since a file of points may come from somebody else.

    References are `${...}`, in any spelling, and URLs of object stores.
    """
    value = text if key in PATH_KEYS and not is_hydras(text) else str(parsed_word(f"{key}={text}").value())
    if "${" in value and not (key in PATH_KEYS and not is_hydras(text)):
        raise UserError(f"{key}={text}: a file of points has values alone: write out what ${{...}} stands for")
    if key not in _TEXTS and any(f"{scheme}://" in value for scheme in SCHEMES):
        raise UserError(f"{key}={text}: a file of points names no URLs: bring the file, and name it here")
