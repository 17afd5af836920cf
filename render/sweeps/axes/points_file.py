"""Files of points in YAML: plain lists, points with names, and the ratings that a gallery saves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from render.config.compose import PATH_KEYS, refuse_unknown
from render.config.hydra_text import is_hydras, parsed_word
from render.config.root_kinds import SWEEP, Schema
from render.config.sweep_schema import SweepJob
from render.config.yaml_files import UnsafeYaml, load_yaml, read_yaml_text
from render.errors import UserError
from render.storage.url import SCHEMES
from render.storage.user_paths import user_path
from render.sweeps.axes.refusals import refuse_film_key
from render.sweeps.axes.values import ValueText, plain_text, value_of_name, value_of_text, values_of_word

#: Point: a value for each of its keys.
PointValues = dict[str, ValueText]

#: Keys of a file that a gallery saves. `sweep` and `ratings` are for its page, which checks them when it opens the file.
_GALLERY_KEYS = ("version", "sweep", "generation", "shared", "ranges", "points", "prints", "ratings")
#: Keys whose values are free text, which may look like a URL.
_TEXT_KEYS = ("name", "output.title", "output.author")
#: Largest generation of a file, and most characters of the version in it and of a point's name.
_MAX_GENERATION, _MAX_VERSION, _MAX_NAME = 1_000_000, 40, 200
_EXAMPLE = "write one in a line, such as - {step_size: 2}"


@dataclass(frozen=True)
class PointsDocument:
    """Content of a file of points: checked for its shape, not yet for keys and values.

    Attributes:
        where: Beginning of messages about the file.
        points: The points, as mappings of keys to values.
        names: A name for each point; empty if the file names none.
        prints: The points as a config of prints needs them; empty if the file lists none.
        shared: Settings of the sweep that its points share.
        ranges: (least, largest) of the numbers on the axes of the sweep, by key.
        generation: Number of times that points have been bred: 0 for points of a grid.
        version: Version of the program that wrote the file; empty if unknown.
    """

    where: str
    points: tuple[Mapping[Any, Any], ...]
    names: tuple[str, ...] = ()
    prints: tuple[Mapping[Any, Any], ...] = ()
    shared: Mapping[Any, Any] = field(default_factory=dict)
    ranges: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    generation: int = 0
    version: str = ""


def read_document(path: str, key: str) -> PointsDocument:
    """Read a file of points; `key` is the key that names it, for messages.

    Raises:
        UserError: The file cannot be read, or is none of points.
    """
    where = f"{key}={path}"
    try:
        document = load_yaml(read_yaml_text(user_path(path, key)))
    except FileNotFoundError:
        raise UserError(f"{where}: there is no such file") from None
    except OSError as error:
        raise UserError(f"{where}: {error.strerror}") from None
    except UnsafeYaml as error:
        raise UserError(f"{where} is not valid YAML: {error}") from None
    if document is None or document in ([], {}):
        raise UserError(f"{where} lists no points: {_EXAMPLE}")
    if isinstance(document, list):
        return PointsDocument(where, _mappings(document, where))
    if isinstance(document, dict) and isinstance(document.get("points"), list):
        return _chosen_points(document, where)
    if isinstance(document, dict) and all(isinstance(point, dict) for point in document.values()):
        names = tuple(map(str, document))
        for name in names:
            if not (name.strip() and name.isprintable() and len(name) <= _MAX_NAME):
                raise UserError(
                    f"{where}: the name {name[:_MAX_NAME]!r} cannot be shown: give it {_MAX_NAME} letters at most"
                )
        return PointsDocument(where, _mappings(list(document.values()), where), names)
    raise UserError(f"{where} is no list of points: {_EXAMPLE}")


def read_points(path: str, groups: Mapping[str, Sequence[str]]) -> list[PointValues]:
    """Read the points that a YAML file lists, each a mapping of keys to values.

    Values are spelled as on the command line.

    Raises:
        UserError: For a file that is not such a list, and for unknown keys.
    """
    return document_points(read_document(path, "sweep.points"), groups)


def document_points(
    document: PointsDocument, groups: Mapping[str, Sequence[str]], schema: Schema[SweepJob] = SWEEP
) -> list[PointValues]:
    """Return the points of a document, of favourites their prints. Raise `UserError` for an invalid one."""
    entries = document.prints or document.points
    return [
        point_values(entry, f"{document.where}, point {number}", groups, schema)
        for number, entry in enumerate(entries, start=1)
    ]


def point_values(
    entry: Mapping[Any, Any], where: str, groups: Mapping[str, Sequence[str]], schema: Schema[SweepJob] = SWEEP
) -> PointValues:
    """Return the values of one point of a sweep of this schema; errors begin with `where`."""
    point: PointValues = {}
    for key, value in entry.items():
        refuse_film_key(str(key), where, schema)
        try:
            refuse_unknown(str(key), groups, schema)
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


def _mappings(entries: Sequence[object], where: str) -> tuple[Mapping[Any, Any], ...]:
    """Return the entries of a list of points. Raise `UserError` for one that is no mapping."""
    for number, entry in enumerate(entries, start=1):
        if not isinstance(entry, dict) or not entry:
            raise UserError(
                f"{where}, point {number} is no mapping of keys to values: write it as {{step_size: 2, seed: 1}}"
            )
    return tuple(entry for entry in entries if isinstance(entry, dict))


def _chosen_points(document: Mapping[Any, Any], where: str) -> PointsDocument:
    """Return the points in a file that a gallery has saved: favourites, and those with four stars or more."""
    unknown_keys = [key for key in document if key not in _GALLERY_KEYS]
    if unknown_keys:
        raise UserError(f"{where} has {unknown_keys[0]!r}, which no file of favourites has: {', '.join(_GALLERY_KEYS)}")
    lists = {key: document.get(key) or [] for key in ("points", "prints", "ratings")}
    mappings = {key: document.get(key) or {} for key in ("shared", "ranges", "sweep")}
    generation, version = document.get("generation", 0), document.get("version", "")
    misshapen = [
        *(key for key, value in lists.items() if not isinstance(value, list)),
        *(key for key, value in mappings.items() if not isinstance(value, dict)),
        *([] if isinstance(generation, int) and 0 <= generation <= _MAX_GENERATION else ["generation"]),
        *([] if isinstance(version, str) and version.isprintable() and len(version) <= _MAX_VERSION else ["version"]),
    ]
    if misshapen:
        raise UserError(f"{where}: its {misshapen[0]!r} is not what a gallery writes: save the ratings again")
    if not lists["points"]:
        raise UserError(
            f"{where} lists no points: give points 4 stars or more on the page of a sweep, or make them favourites, and "
            "save the ratings again"
        )
    return PointsDocument(
        where,
        _mappings(lists["points"], where),
        (),
        _mappings(lists["prints"], f"{where}, prints"),
        mappings["shared"],
        {str(key): _range(value, f"{where}: ranges.{key}") for key, value in mappings["ranges"].items()},
        int(generation),
        version,
    )


def _range(value: object, where: str) -> tuple[float, float]:
    """Return (least, largest). Raise `UserError` for anything else."""
    numbers = value if isinstance(value, list) else []
    is_pair = len(numbers) == 2 and all(
        isinstance(number, int | float) and not isinstance(number, bool) and abs(number) < 1e300 for number in numbers
    )
    if not is_pair or not numbers[0] <= numbers[1]:
        raise UserError(f"{where}={str(value)[:80]}: must be two numbers, the smaller first, such as [0.5,4]")
    return float(numbers[0]), float(numbers[1])


def _refuse_references(key: str, text: str) -> None:
    """Raise `UserError` for a value with a reference: the file may come from somebody else.

    References are `${...}`, in any spelling, and URLs of object stores.
    """
    value = text if key in PATH_KEYS and not is_hydras(text) else str(parsed_word(f"{key}={text}").value())
    if "${" in value and not (key in PATH_KEYS and not is_hydras(text)):
        raise UserError(f"{key}={text}: a file of points has values alone: write out what ${{...}} stands for")
    if key not in _TEXT_KEYS and any(f"{scheme}://" in value for scheme in SCHEMES):
        raise UserError(f"{key}={text}: a file of points names no URLs: bring the file, and name it here")
