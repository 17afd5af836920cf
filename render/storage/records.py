"""Small records in JSON, bounded in size and checked against a shape.

All records are read through this module, because somebody else may have sent them: every part of a record that its shape
names is checked, and other parts are never used.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints, is_typeddict

#: Maximum nesting depth of a record: a config has eight levels.
MAX_DEPTH = 64
#: Maximum number of lists, mappings and items in a record: a sweep of 100,000 points has about two million.
MAX_ITEMS = 6_000_000


class MalformedRecord(ValueError):
    """Error for content that is no record, or has not the expected shape.

    The message says where and why.
    """


@dataclass(frozen=True)
class Matching:
    """Text that a pattern matches completely, for `Annotated`."""

    pattern: str

    def holds(self, value: str) -> bool:
        """Return whether the pattern matches all of a text."""
        return re.fullmatch(self.pattern, value) is not None


@dataclass(frozen=True)
class Between:
    """Number from `least` to `most`, both included, for `Annotated`."""

    least: float
    most: float

    def holds(self, value: float) -> bool:
        """Return whether a number is in the range."""
        return self.least <= value <= self.most


#: Length, or count of steps or tiles. No picture comes near the maximum.
WholeNumber = Annotated[int, Between(0, 1 << 40)]
#: Side of a picture, px.
Side = Annotated[int, Between(1, 1 << 25)]
#: Time since the epoch, or a duration, s.
Seconds = Annotated[float, Between(0.0, 1e11)]
#: A sha256, hex.
Sha256 = Annotated[str, Matching("[0-9a-f]{64}")]
_PART = r"(?!\.{1,2}(?:/|$))[^/\0]{1,255}"
#: Name of a file or directory directly in the directory of the record (`FileName`), or at any depth (`InnerName`).
FileName = Annotated[str, Matching(_PART)]
InnerName = Annotated[str, Matching(rf"{_PART}(?:/{_PART}){{0,63}}")]


def parse_record(content: bytes) -> Any:
    """Return the value of JSON text.

    Raises:
        MalformedRecord: It is empty, invalid, too large or nested too deep.
    """
    if not content.strip(b"\0 \t\r\n"):
        raise MalformedRecord("it is empty")
    if sum(content.count(mark) for mark in (b"[", b"{", b",")) > MAX_ITEMS:
        raise MalformedRecord(f"it holds more than {MAX_ITEMS:,} items")
    try:
        value = json.loads(content.decode("utf-8"))
    except RecursionError:
        raise MalformedRecord("it is nested too deep") from None
    except ValueError as error:
        raise MalformedRecord(f"it is no JSON: {error}") from None
    if any(depth > MAX_DEPTH for depth in _depths(value)):
        raise MalformedRecord("it is nested too deep")
    return value


def check_shape(value: object, shape: Any, name: str = "it") -> None:
    """Raise `MalformedRecord` if a value does not fit a type.

    The message names the part that does not.

    Args:
        value: Result of `parse_record`, or a part of it.
        shape: A TypedDict (other keys are allowed), `dict[str, X]`, `list[X]`, a union, a `Literal`, `str`, `int`, `float`
            (finite, whole numbers included), `bool`, `Any`, or `Annotated` with one of these and `Matching` or `Between`.
        name: Name of the value in the message.
    """
    misfit = next(_misfits(value, shape, name), None)
    if misfit is not None:
        raise MalformedRecord(misfit)


def fits(value: object, shape: Any) -> bool:
    """Return whether a value fits a type: see `check_shape`."""
    return next(_misfits(value, shape, ""), None) is None


def _misfits(value: object, shape: Any, name: str) -> Iterator[str]:
    origin = get_origin(shape)
    if shape is Any:
        return
    if is_typeddict(shape):
        yield from _misfit_keys(value, shape, name)
    elif origin in (list, dict):
        yield from _misfit_items(value, origin, get_args(shape), name)
    elif origin is Annotated:
        kind, *rules = get_args(shape)
        misfit = next(_misfits(value, kind, name), None)
        if misfit is not None or not all(rule.holds(value) for rule in rules):
            yield misfit or f"{name} is not what it can be"
    elif origin in (Union, UnionType, Literal):
        if not any(_is_choice(value, choice, origin) for choice in get_args(shape)):
            yield f"{name} is not what it can be"
    elif not _is_plain(value, shape):
        yield f"{name} is no {shape.__name__}"


def _misfit_items(value: object, kind: type, shapes: tuple[Any, ...], name: str) -> Iterator[str]:
    if kind is list and isinstance(value, list):
        for index, item in enumerate(value):
            yield from _misfits(item, shapes[0], f"{name}[{index}]")
    elif kind is dict and isinstance(value, dict):
        for key, item in value.items():
            yield from _misfits(key, shapes[0], f"a key of {name}")
            yield from _misfits(item, shapes[1], f"{name}[{key!r}]")
    else:
        yield f"{name} is no {'list' if kind is list else 'mapping'}"


def _is_choice(value: object, choice: Any, origin: Any) -> bool:
    if origin is Literal:
        return type(value) is type(choice) and value == choice
    return next(_misfits(value, choice, ""), None) is None


def _misfit_keys(value: object, shape: Any, name: str) -> Iterator[str]:
    if not isinstance(value, dict):
        yield f"{name} is no mapping"
        return
    for key, kind in _keys(shape).items():
        if key in value:
            yield from _misfits(value[key], kind, key if name == "it" else f"{name}.{key}")
        elif key in shape.__required_keys__:
            yield f"{name} has no {key}"


@cache
def _keys(shape: Any) -> dict[str, Any]:
    return get_type_hints(shape, include_extras=True)


def _is_plain(value: object, kind: type) -> bool:
    if kind is float:
        return isinstance(value, int | float) and not isinstance(value, bool) and _is_finite(value)
    if kind is int:
        return isinstance(value, int) and not isinstance(value, bool)
    return value is None if kind is NoneType else isinstance(value, kind)


def _is_finite(value: float) -> bool:
    try:
        return math.isfinite(value)
    except OverflowError:
        # A whole number larger than any float.
        return False


def _depths(value: object) -> Iterator[int]:
    """Yield the depth of every list and mapping, without recursion."""
    stack = [(value, 1)]
    while stack:
        inner, depth = stack.pop()
        if isinstance(inner, dict | list):
            yield depth
            stack += [(item, depth + 1) for item in (inner.values() if isinstance(inner, dict) else inner)]
