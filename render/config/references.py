"""Bounds what the references `${...}` of a config come to, before any is followed.

A value may refer to another ten times, that to the next ten times, and so on: a few lines come to more text, or more
values, than any memory holds. So the size of each value is reckoned first, in letters and values, without making it.
"""

from __future__ import annotations

import re
from typing import Any

from omegaconf import DictConfig, OmegaConf

from render.errors import UserError

#: Letters and values that the references of one config may come to.
MAX_EXPANDED = 1_000_000

_INNERMOST = re.compile(r"\$\{([^${}]*)\}")
_ESCAPED = re.compile(r"(?<!\\)(?:\\\\)*\\\$\{")
_RESOLVER = re.compile(r"\s*[A-Za-z_][\w.]*\s*:")
#: Letters that an environment variable, or whatever else is no value of the config, is reckoned with.
_UNKNOWN = 1000
_Path = tuple[str, ...]


def check_references(config: DictConfig) -> None:
    """Raise `UserError` where the references of a config come to too much, or where one is a part of another."""
    raw = OmegaConf.to_container(config, resolve=False)
    try:
        _Sizes(raw).of((), raw)
    except RecursionError:
        raise UserError("the config's references ${...} lead from one to the next without end: write values") from None


class _Sizes:
    """Sizes of values with references followed: letters of text, and one for each other value."""

    def __init__(self, raw: Any) -> None:
        self._raw = raw
        self._known: dict[_Path, int] = {}
        self._open: set[_Path] = set()

    def of(self, path: _Path, value: Any) -> int:
        """The size of a value, and of all below it. Raises `UserError` where references make it too large."""
        if path in self._open:
            # OmegaConf refuses circles, and names the key.
            return 0
        if path not in self._known:
            self._open.add(path)
            self._known[path] = self._reckon(path, value)
            self._open.discard(path)
        return self._known[path]

    def _reckon(self, path: _Path, value: Any) -> int:
        if isinstance(value, dict):
            return 1 + sum(self.of((*path, str(key)), inner) for key, inner in value.items())
        if isinstance(value, list):
            return 1 + sum(self.of((*path, str(number)), inner) for number, inner in enumerate(value))
        if not isinstance(value, str):
            return 1
        size = len(value)
        rest = _ESCAPED.sub("", value)
        while match := _INNERMOST.search(rest):
            size += sum(self._of_target(key, path[:-1]) for key in _keys(match[1], path))
            if size > MAX_EXPANDED:
                raise UserError(f"{_name(path)}: its references ${{...}} come to over {MAX_EXPANDED:,} letters: write less")
            # What a reference inside another one comes to is a part of a key, which cannot be foreseen.
            rest = f"{rest[: match.start()]}\0{rest[match.end() :]}"
        return size

    def _of_target(self, key: str, parent: _Path) -> int:
        name = key.strip().strip("'\"")
        up = len(name) - len(name.lstrip("."))
        path = (*(parent[: max(0, len(parent) - up + 1)] if up else ()), *re.findall(r"[^.\[\]]+", name))
        value = self._raw
        for depth, part in enumerate(path):
            if isinstance(value, dict):
                value = value.get(part, value.get(int(part)) if part.isdecimal() else None)
            elif isinstance(value, list):
                value = value[int(part)] if part.isdecimal() and int(part) < len(value) else None
            else:
                # A reference on the way: what is looked for is a part of what it names.
                path = path[:depth]
                break
        return _UNKNOWN if value is None else self.of(path, value)


def _keys(inside: str, path: _Path) -> list[str]:
    """The keys that a reference names: one, or the words that it gives to a resolver."""
    resolver = _RESOLVER.match(inside)
    keys = inside[resolver.end() :].split(",") if resolver else [inside]
    if any("\0" in key for key in keys):
        raise UserError(f"{_name(path)}: it has a reference ${{...}} inside another: write the key itself")
    return keys


def _name(path: _Path) -> str:
    return ".".join(path)[:80]
