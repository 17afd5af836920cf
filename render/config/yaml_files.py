"""Safe reading of untrusted YAML: bytes, depth and nodes are limited before anything is built.

A few lines of anchors can expand to more values than memory holds (the "billion laughs"), and brackets can nest deeper than
parsers can follow. So the events of a document are counted first, and each alias counts as much as its anchor.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml  # type: ignore[import-untyped]

from render.system.reading import read_regular

#: Limits of a file: bytes, values with all aliases expanded, and nesting depth.
MAX_BYTES, MAX_NODES, MAX_DEPTH = 8 << 20, 500_000, 32
#: Most references `${...}` in one value, nested ones included.
MAX_REFERENCES = 64
#: Most characters of a number. Python converts at most 4,300 digits, and no float has over 309.
LONGEST_NUMBER = 100

_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_CORE_TAGS = {f"tag:yaml.org,2002:{kind}" for kind in ("str", "int", "float", "bool", "null", "seq", "map")} | {"!"}
_NUMBER = re.compile(r"[-+.:_0-9a-fA-FxXoO]+")


class UnsafeYaml(ValueError):
    """Error for a document that is not plain YAML or is too large. The message is one line."""


@dataclass
class _Open:
    """Mapping or sequence that has not ended yet. `height` is the depth of the deepest value inside."""

    anchor: str | None
    mapping: bool
    nodes: int = 1
    height: int = 0
    items: int = 0
    keys: set[str] = field(default_factory=set)


def read_yaml_text(path: Path, max_bytes: int = MAX_BYTES) -> str:
    """Return the text of a YAML file. Raise `OSError` as `read_regular` does, and `UnsafeYaml` if it is not UTF-8."""
    content = read_regular(path, max_bytes)
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UnsafeYaml(f"it is no text in UTF-8 (byte {error.start:,} is {content[error.start]:#04x})") from None


def load_yaml(text: str, max_nodes: int = MAX_NODES) -> Any:
    """Return the only document in a text, None for an empty one. Raise `UnsafeYaml` if it is unsafe or not the only one."""
    check_yaml(text, max_nodes, one_document=True)
    return next(iter(_load(text)), None)


def load_all_yaml(text: str, max_nodes: int = MAX_NODES) -> list[Any]:
    """Return all documents in a text. Raise `UnsafeYaml` if they are not safe."""
    check_yaml(text, max_nodes)
    return _load(text)


def _load(text: str) -> list[Any]:
    try:
        return list(yaml.load_all(text, Loader=_LOADER))
    except (yaml.YAMLError, ValueError) as error:
        raise UnsafeYaml(one_line(error)) from None


def check_yaml(text: str, max_nodes: int = MAX_NODES, *, one_document: bool = False) -> None:
    """Raise `UnsafeYaml` unless a text is plain YAML within the limits, without program tags or duplicate keys."""
    try:
        _Weigher(max_nodes, 1 if one_document else None).weigh(yaml.parse(text, Loader=_LOADER))
    except UnsafeYaml:
        raise
    except (yaml.YAMLError, ValueError) as error:
        raise UnsafeYaml(one_line(error)) from None


class _Weigher:
    """Counter of the nodes and depth of documents. An alias counts as much as its anchor."""

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
                collection = self._stack.pop()
                self._add(collection.anchor, collection.nodes, collection.height, event)

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
        """Raise `UnsafeYaml` for a key that its mapping already has. Merge keys (`<<`) may repeat."""
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
        parent = self._stack[-1]
        parent.items += 1
        parent.nodes += nodes
        parent.height = max(parent.height, height + 1)
        if parent.nodes > self._max_nodes:
            raise UnsafeYaml(f"{_line(event)} it holds more than {self._max_nodes:,} values")
        if len(self._stack) + height > MAX_DEPTH:
            raise UnsafeYaml(f"{_line(event)} it is nested more than {MAX_DEPTH} deep")


def _refuse_tag(event: Any) -> None:
    if event.tag is not None and event.tag not in _CORE_TAGS:
        raise UnsafeYaml(f"{_line(event)} it has the tag {event.tag[:80]!r}: write plain values")


def _line(event: Any) -> str:
    return f"line {event.start_mark.line + 1}:"


def one_line(error: Exception) -> str:
    """Return the parser's message on one line, without its name for a text that is not a file."""
    return " ".join(re.sub(r'\s+in "<[a-z ]+>"', "", str(error)).split())
