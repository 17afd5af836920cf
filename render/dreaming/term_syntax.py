"""Syntax of terms in a config: `[WEIGHT*]LAYER[:CHANNELS]`, `[WEIGHT*]class:NAME`, or a mapping with keys."""

from __future__ import annotations

import difflib
import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np

from render.dreaming.picture_terms import Caricature, Guide
from render.dreaming.term_base import Term, Vector
from render.dreaming.terms import (
    MEASURES,
    Class,
    Direction,
    Energy,
    Neuron,
    Strongest,
)
from render.dreaming.texture import Texture
from render.errors import UserError

#: A weight and its star before a term, both of which may be left out.
WEIGHT = r"\s*(?:(?P<weight>[-+]?[\d.]+(?:[eE][-+]?\d+)?)\s*\*\s*)?"
_CHANNEL = r"\d{1,9}(?:\s*-\s*\d{1,9})?"
_TEXT = re.compile(
    WEIGHT + rf"(?P<layer>/.+/|[^:*\s]+)\s*(?::\s*(?P<channels>{_CHANNEL}(?:\s*[,+]\s*{_CHANNEL})*)\s*)?", re.ASCII
)
_CLASS = re.compile(WEIGHT + r"class\s*:\s*(?P<name>\S.*?)\s*")
_RANGE = re.compile(r"\s*(\d{1,9})\s*-\s*(\d{1,9})\s*", re.ASCII)
#: Not `str.isdigit`, which also accepts digits such as superscripts.
_NUMBER = re.compile(r"\d{1,9}", re.ASCII)
#: Channels that a range may hold; more than any network's layer has.
_MAX_CHANNELS = 100_000

#: The keys that name the kind of a term, with the further keys of that kind; `layer` and `weight` go with all.
_KIND_KEYS: dict[str, tuple[str, ...]] = {
    "at": ("channels",),
    "strongest": (),
    "weakest": (),
    "direction": ("power",),
    "class": (),
    "guide": (),
    "caricature": ("power",),
    "texture": ("layers", "scale"),
}
_ENERGY_KEYS = ("channels", "measure")
_ALL_KEYS = ("layer", "weight", *_ENERGY_KEYS, *_KIND_KEYS, "power", "layers", "scale")
#: Bounds of a texture's scale.
_MIN_SCALE, _MAX_SCALE = 0.01, 100.0


@dataclass(frozen=True)
class Picture:
    """Picture that a term names: float32 RGB pixels (rows, columns, 3), 0..255, and the sha256 of its file."""

    pixels: Vector
    sha256: str


class Materials(Protocol):
    """Source of the classes, pictures and vectors that terms name."""

    def find_class(self, written: str | int) -> tuple[int, str]:
        """Return number and name of a class; raise `UserError` if it is unknown or ambiguous."""

    def picture(self, path: str) -> Picture:
        """Return a guide's pixels; raise `UserError` if there are none."""

    def texture(self, path: str) -> Picture:
        """Return a texture's pixels; raise `UserError` if there are none."""

    def vector(self, path: str) -> tuple[float, ...]:
        """Return the numbers of a direction; raise `UserError` if there are none."""


class NoMaterials:
    """Materials for terms that name nothing: a class must be a number, and a direction a list."""

    def find_class(self, written: str | int) -> tuple[int, str]:
        """Return the number, without a name; raise `UserError` if it is a name."""
        if isinstance(written, str) and not _NUMBER.fullmatch(written):
            raise UserError(f"class {written!r} needs a model that has a classifier")
        return int(written), ""

    def picture(self, path: str) -> Picture:
        """Raise `UserError`: there are no pictures."""
        raise UserError(f"guide {path!r} cannot be opened here")

    def texture(self, path: str) -> Picture:
        """Raise `UserError`: there are no pictures."""
        raise UserError(f"texture {path!r} cannot be opened here")

    def vector(self, path: str) -> tuple[float, ...]:
        """Raise `UserError`: there are no vectors."""
        raise UserError(f"direction {path!r} cannot be opened here")


def parse_term(written: object, materials: Materials | None = None) -> Term:
    """Return the term that a config means by text or by a mapping.

    Its layer may be a regular expression between slashes. The layer of a `Class` is left empty: it is the network's
    last.

    Args:
        written: The term as a config has it: text, or a mapping with the keys that the kind takes.
        materials: Source of the classes, pictures and vectors that the term names; None if it names none.

    Raises:
        UserError: The term has no meaning.
    """
    materials = materials or NoMaterials()
    loaded = _loaded(written)
    if isinstance(loaded, str):
        return _parse_text(loaded, materials)
    if isinstance(loaded, Mapping):
        return _parse_mapping(loaded, materials)
    raise UserError(f"objective term {written!r} is neither text nor a mapping with a `layer`")


def parse_terms(written: object, materials: Materials | None = None) -> list[Term]:
    """Return the terms that a config means by text or by a mapping: several if it names several `layers`.

    Arguments and errors are those of `parse_term`.
    """
    loaded = _loaded(written)
    if not isinstance(loaded, Mapping) or "layers" not in loaded:
        return [parse_term(loaded, materials)]
    layers = loaded["layers"]
    if "layer" in loaded:
        raise UserError(f"objective term {dict(loaded)!r} has both 'layer' and 'layers': keep one of them")
    if isinstance(layers, str) or not isinstance(layers, Sequence) or not layers:
        raise UserError(f"objective layers: {layers!r} must be a list of layers, such as [mixed0, mixed2]")
    if any(layers.count(layer) > 1 for layer in layers):
        raise UserError(f"objective layers: {list(layers)!r} names a layer twice")
    return [parse_term({**loaded, "layer": layer}, materials) for layer in layers]


def _loaded(written: object) -> object:
    """Return a term whose text is a mapping as that mapping, and any other as it is."""
    if not isinstance(written, str) or not written.lstrip().startswith("{"):
        return written
    try:
        loaded = json.loads(written)
    except (ValueError, RecursionError):
        loaded = None
    if not isinstance(loaded, dict):
        raise UserError(f"objective term {written!r} is not a mapping such as {{'layer': 'mixed4', 'strongest': 5}}")
    return loaded


def _parse_text(written: str, materials: Materials) -> Term:
    named = _CLASS.fullmatch(written)
    if named:
        return _class(named["name"], _weight(named["weight"] or 1, written), materials)
    match = _TEXT.fullmatch(written)
    if match is None:
        raise UserError(
            f"objective term {written!r} is not [WEIGHT*]LAYER[:CHANNELS], such as 0.5*mixed4:12+40-44, nor class:NAME"
        )
    channels: list[int] = []
    for word in re.findall(_CHANNEL, match["channels"] or ""):
        channels += _range(word, written) if "-" in word else [int(word)]
    return Energy(match["layer"], _distinct(channels, written), weight=_weight(match["weight"] or 1, written))


def _parse_mapping(written: Mapping[Any, Any], materials: Materials) -> Term:
    for key in written:
        if key not in _ALL_KEYS:
            near = difflib.get_close_matches(str(key), _ALL_KEYS, n=1)
            raise UserError(f"objective term has an unknown key {key!r}" + (f"; did you mean {near[0]!r}?" if near else ""))
    kinds = [key for key in _KIND_KEYS if key in written]
    if len(kinds) > 1:
        raise UserError(f"objective term {dict(written)!r} has both {kinds[0]!r} and {kinds[1]!r}: make two terms of it")
    kind = kinds[0] if kinds else ""
    for key in written:
        if key not in ("layer", "weight", kind, *(_KIND_KEYS[kind] if kind else _ENERGY_KEYS)):
            raise UserError(f"objective term {dict(written)!r}: {key!r} does not go with {kind or 'a layer alone'!r}")
    weight = _weight(written.get("weight", 1), written)
    if kind == "class":
        if "layer" in written:
            raise UserError(f"objective term {dict(written)!r}: a class has no `layer`, it is the network's last")
        return _class(written["class"], weight, materials)
    layer = written.get("layer")
    if not isinstance(layer, str) or not layer:
        raise UserError(f"objective term {dict(written)!r} needs a `layer`")
    return _of_kind(kind, layer, weight, written, materials)


def _of_kind(kind: str, layer: str, weight: float, written: Mapping[Any, Any], materials: Materials) -> Term:
    """Return the term of a mapping whose keys have been checked.

    `kind` is the key that names its kind, or empty.
    """
    match kind:
        case "at":
            channels = _channels(written.get("channels"), written)
            if len(channels) != 1:
                raise UserError(f"objective term {dict(written)!r}: a neuron has one channel, such as channels: 12")
            return Neuron(layer, channels[0], _place(written["at"]), weight=weight)
        case "strongest" | "weakest":
            count = written[kind]
            if not isinstance(count, int) or isinstance(count, bool) or count < 1:
                raise UserError(f"objective {kind}: {count!r} must be a number of channels, at least 1")
            return Strongest(layer, count, kind == "weakest", weight=weight)
        case "direction":
            vector, named = _vector(written["direction"], materials)
            return Direction(layer, vector, _power(written.get("power", 0)), named, weight=weight)
        case "guide" | "texture":
            return _of_picture(kind, layer, weight, written, materials)
        case "caricature":
            if written["caricature"] is not True:
                raise UserError(f"objective caricature: {written['caricature']!r} must be true")
            return Caricature(layer, _power(written.get("power", 1)), weight=weight)
        case _:
            measure = written.get("measure")
            if measure is not None and measure not in MEASURES:
                raise UserError(f"objective measure: {measure!r} must be one of {', '.join(MEASURES)}")
            channels = _channels(written.get("channels"), written)
            return Energy(layer, channels, measure, weight=weight)


def _of_picture(kind: str, layer: str, weight: float, written: Mapping[Any, Any], materials: Materials) -> Guide | Texture:
    """Return the term that compares with another picture; `kind` is also the key of its path."""
    path = written[kind]
    if not isinstance(path, str) or not path:
        raise UserError(f"objective {kind}: {path!r} must be the path of a picture")
    if kind == "guide":
        guide = materials.picture(path)
        return Guide(layer, path, guide.sha256, guide.pixels, weight=weight)
    scale = _scale(written.get("scale", 1))
    texture = materials.texture(path)
    return Texture(layer, path, texture.sha256, texture.pixels, scale, weight=weight)


def _class(name: object, weight: float, materials: Materials) -> Class:
    """Return the term of a class, by its name or number."""
    if isinstance(name, bool) or not isinstance(name, str | int) or name == "":
        raise UserError(f"objective class: {name!r} must be a name or a number")
    number, class_name = materials.find_class(int(name) if isinstance(name, str) and _NUMBER.fullmatch(name) else name)
    return Class("", number, class_name, weight=weight)


def expand(term: Term, architecture_layers: Sequence[str], model: str) -> list[Term]:
    """Return the term on every layer that its regular expression matches, in order.

    A term that names one layer is returned unchanged.

    Args:
        term: The term.
        architecture_layers: Names of the network's layers.
        model: Name of the network, for messages.

    Raises:
        UserError: The expression is none, or matches no layer.
    """
    pattern = term.layer
    if not (len(pattern) > 2 and pattern.startswith("/") and pattern.endswith("/")):
        return [term]
    try:
        expression = re.compile(pattern[1:-1])
    except re.error as error:
        raise UserError(f"objective layer {pattern} is not a regular expression: {error}") from None
    matched = [name for name in architecture_layers if expression.fullmatch(name)]
    if not matched:
        raise UserError(f"objective layer {pattern} matches no layer of {model}: `make models` lists them")
    return [replace(term, layer=name) for name in matched]


def _weight(value: object, written: object) -> float:
    """Return a weight, finite and not 0."""
    try:
        if isinstance(value, bool):
            raise TypeError
        weight = float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError, OverflowError):
        raise UserError(f"objective term {written!r}: weight {value!r} is not a number") from None
    if weight == 0 or not math.isfinite(weight):
        raise UserError(f"objective term {written!r}: weight must be a finite number other than 0")
    return weight


def _power(value: object) -> float:
    """Return the power of a cosine, 0 or more."""
    is_valid = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value) and value >= 0
    if not is_valid:
        raise UserError(f"objective power: {value!r} must be a number, 0 or more")
    return float(value)  # type: ignore[arg-type]


def _scale(value: object) -> float:
    """Return the scale of a texture."""
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if not is_number or not _MIN_SCALE <= value <= _MAX_SCALE:  # type: ignore[operator]
        raise UserError(
            f"objective scale: {value!r} must be a number from {_MIN_SCALE:g} to {_MAX_SCALE:g}, the texture's long side "
            "over the canvas'"
        )
    return float(value)  # type: ignore[arg-type]


def _place(value: object) -> tuple[float, float]:
    """Return a place (x, y) in shares, 0..1."""
    numbers = list(value) if isinstance(value, Sequence) and not isinstance(value, str) else []
    is_pair = len(numbers) == 2 and all(
        isinstance(number, int | float) and not isinstance(number, bool) for number in numbers
    )
    if not is_pair or not all(0 <= number <= 1 for number in numbers):
        raise UserError(f"objective at: {value!r} must be [x, y], shares from 0 to 1 of width and height")
    return float(numbers[0]), float(numbers[1])


def _vector(value: object, materials: Materials) -> tuple[tuple[float, ...], str | None]:
    """Return a direction's numbers, and the file that they were read from, or None."""
    named = value if isinstance(value, str) else None
    if isinstance(value, str):
        vector = materials.vector(value)
    elif isinstance(value, Sequence) and all(
        isinstance(number, int | float) and not isinstance(number, bool) for number in value
    ):
        vector = tuple(float(number) for number in value)
    else:
        raise UserError(f"objective direction: {value!r} must be a list of numbers or the path of a .npy file")
    if not vector or not np.isfinite(vector).all() or not np.any(vector):
        raise UserError(f"objective direction: {named or list(vector)!r} must be finite numbers, not all 0")
    return vector, named


def _range(word: str, written: object) -> list[int]:
    """Return the channels of a range such as `40-44`, both ends included."""
    match = _RANGE.fullmatch(word)
    assert match is not None
    first, last = int(match[1]), int(match[2])
    if last < first or last - first >= _MAX_CHANNELS:
        raise UserError(f"objective term {written!r}: {word} is no range of channels; write the smaller number first")
    return list(range(first, last + 1))


def _channels(value: object, written: object) -> tuple[int, ...]:
    """Return the channels of a mapping: a number, a range, or a list of both; () for None."""
    if value is None:
        return ()
    numbers = list(value) if isinstance(value, Sequence) and not isinstance(value, str) else [value]
    whole: list[int] = []
    for number in numbers:
        if isinstance(number, str) and _RANGE.fullmatch(number):
            whole += _range(number, written)
        elif isinstance(number, int) and not isinstance(number, bool):
            whole.append(number)
        else:
            raise UserError(f"objective channels {value!r} must be whole numbers, or ranges such as '10-20'")
    if not whole:
        raise UserError("objective channels are empty: name at least one, or leave `channels` out for the whole layer")
    return _distinct(whole, written)


def _distinct(channels: Sequence[int], written: object) -> tuple[int, ...]:
    """Return the channels, none of them twice."""
    if len(set(channels)) < len(channels):
        raise UserError(f"objective term {written!r} names a channel twice")
    return tuple(channels)
