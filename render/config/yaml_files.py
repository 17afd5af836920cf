"""YAML that others may have written: bounded in bytes, depth and nodes before anything is made of it.

A few lines of anchors stand for more values than any memory holds (the "billion laughs"), and brackets nest deeper than
parsers can follow. So the events of a document are counted first, with each alias at the weight of what it stands for.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml  # type: ignore[import-untyped]

from render.system.reading import read_regular

#: The most that a file may hold: bytes, values with all aliases written out, and brackets within brackets.
MAX_BYTES, MAX_NODES, MAX_DEPTH = 8 << 20, 500_000, 32
#: References `${...}` in one value; they may nest, too.
MAX_REFERENCES = 64
#: Characters of a number; Python turns no longer ones than 4,300 into text, and no float has over 309.
LONGEST_NUMBER = 100

_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_CORE_TAGS = {f"tag:yaml.org,2002:{kind}" for kind in ("str", "int", "float", "bool", "null", "seq", "map")} | {"!"}
_NUMBER = re.compile(r"[-+.:_0-9a-fA-FxXoO]+")


class UnsafeYaml(ValueError):
    """A document that is no plain YAML, or that is too much of it; the message is one line."""


@dataclass
class _Open:
    """A mapping or a sequence whose end has not come yet; `height` is that of the deepest value inside."""

    anchor: str | None
    mapping: bool
    nodes: int = 1
    height: int = 0
    items: int = 0
    keys: set[str] = field(default_factory=set)


def read_yaml_text(path: Path, max_bytes: int = MAX_BYTES) -> str:
    """Return the text of a YAML file. Raises `OSError` as `read_regular` does, and `UnsafeYaml` where it is no text."""
    content = read_regular(path, max_bytes)
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UnsafeYaml(f"it is no text in UTF-8 (byte {error.start:,} is {content[error.start]:#04x})") from None


def load_yaml(text: str, max_nodes: int = MAX_NODES) -> Any:
    """Return the one document that a text holds, None for an empty one. Raises `UnsafeYaml`."""
    check_yaml(text, max_nodes, one_document=True)
    return next(iter(_load(text)), None)


def load_all_yaml(text: str, max_nodes: int = MAX_NODES) -> list[Any]:
    """Return all documents that a text holds. Raises `UnsafeYaml`."""
    check_yaml(text, max_nodes)
    return _load(text)


def _load(text: str) -> list[Any]:
    try:
        return list(yaml.load_all(text, Loader=_LOADER))
    except (yaml.YAMLError, ValueError) as error:
        raise UnsafeYaml(one_line(error)) from None


def check_yaml(text: str, max_nodes: int = MAX_NODES, *, one_document: bool = False) -> None:
    """Raise `UnsafeYaml` unless a text is plain YAML: no tags of programs, no key twice, and within the bounds."""
    try:
        _Weigher(max_nodes, 1 if one_document else None).weigh(yaml.parse(text, Loader=_LOADER))
    except UnsafeYaml:
        raise
    except (yaml.YAMLError, ValueError) as error:
        raise UnsafeYaml(one_line(error)) from None


class _Weigher:
    """Counts nodes and depth of documents, each alias as what its anchor holds."""

    def __init__(self, max_nodes: int, max_documents: int | None) -> None:
        self._max_nodes, self._max_documents = max_nodes, max_documents
        self._documents = 0
        self._weights: dict[str, tuple[int, int]] = {}
        self._stack: list[_Open] = []

    def weigh(self, events: Iterator[Any]) -> None:
        for event in events:
            if isinstance(event, yaml.DocumentStartEvent):
                self._weights.clear()
                self._documents += 1
                if self._max_documents is not None and self._documents > self._max_documents:
                    raise UnsafeYaml(f"{_line(event)} another document begins: leave one")
            elif isinstance(event, yaml.AliasEvent):
                self._alias(event)
            elif isinstance(event, yaml.ScalarEvent):
                self._scalar(event)
            elif isinstance(event, yaml.CollectionStartEvent):
                self._begin(event)
            elif isinstance(event, yaml.CollectionEndEvent):
                ended = self._stack.pop()
                self._add(ended.anchor, ended.nodes, ended.height, event)

    def _alias(self, event: Any) -> None:
        if any(place.anchor == event.anchor for place in self._stack):
            raise UnsafeYaml(f"{_line(event)} *{event.anchor} stands inside what it stands for")
        if event.anchor not in self._weights:
            raise UnsafeYaml(f"{_line(event)} there is no &{event.anchor} before *{event.anchor}")
        self._key(None)
        self._add(None, *self._weights[event.anchor], event)

    def _scalar(self, event: Any) -> None:
        _refuse_tag(event)
        if event.implicit[0] and len(event.value) > LONGEST_NUMBER and _NUMBER.fullmatch(event.value):
            raise UnsafeYaml(f"{_line(event)} a number of {len(event.value):,} characters is too long")
        if event.value.count("${") > MAX_REFERENCES:
            raise UnsafeYaml(f"{_line(event)} a value has more than {MAX_REFERENCES} references ${{...}}")
        self._key(event)
        self._add(event.anchor, 1, 0, event)

    def _begin(self, event: Any) -> None:
        _refuse_tag(event)
        if self._is_key():
            raise UnsafeYaml(f"{_line(event)} a key is a mapping or a list: make it a word")
        if len(self._stack) >= MAX_DEPTH:
            raise UnsafeYaml(f"{_line(event)} it is nested more than {MAX_DEPTH} deep")
        self._stack.append(_Open(event.anchor, isinstance(event, yaml.MappingStartEvent)))

    def _is_key(self) -> bool:
        return bool(self._stack) and self._stack[-1].mapping and self._stack[-1].items % 2 == 0

    def _key(self, event: Any) -> None:
        """Refuse a key that its mapping has already; merges may stand there several times."""
        if event is None or not self._is_key() or (event.value == "<<" and event.implicit[0]):
            return
        if event.value in self._stack[-1].keys:
            raise UnsafeYaml(f"{_line(event)} the key {event.value[:80]!r} is there twice")
        self._stack[-1].keys.add(event.value)

    def _add(self, anchor: str | None, nodes: int, height: int, event: Any) -> None:
        if anchor is not None:
            self._weights[anchor] = nodes, height
        if nodes > self._max_nodes:
            raise UnsafeYaml(f"{_line(event)} it holds more than {self._max_nodes:,} values")
        if not self._stack:
            return
        inside = self._stack[-1]
        inside.items += 1
        inside.nodes += nodes
        inside.height = max(inside.height, height + 1)
        if inside.nodes > self._max_nodes:
            raise UnsafeYaml(f"{_line(event)} it holds more than {self._max_nodes:,} values")
        if len(self._stack) + height > MAX_DEPTH:
            raise UnsafeYaml(f"{_line(event)} it is nested more than {MAX_DEPTH} deep")


def _refuse_tag(event: Any) -> None:
    if event.tag is not None and event.tag not in _CORE_TAGS:
        raise UnsafeYaml(f"{_line(event)} it has the tag {event.tag[:80]!r}: write plain values")


def _line(event: Any) -> str:
    return f"line {event.start_mark.line + 1}:"


def one_line(error: Exception) -> str:
    """The parser's words in one line, without its name for a text that is no file."""
    return " ".join(re.sub(r'\s+in "<[a-z ]+>"', "", str(error)).split())
