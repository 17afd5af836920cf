"""Limit on the expanded size of a config's references `${...}`, checked before any is resolved.

A value may refer to another ten times, which refers to the next ten times, and so on. A few lines can then expand to more
text or values than memory holds. So the expanded size of each value is computed first, in characters and values.
"""

from __future__ import annotations

import re
from typing import Any

from omegaconf import DictConfig, OmegaConf

from render.errors import UserError

#: Most characters and values that the references in a config may expand to.
MAX_EXPANDED = 1_000_000

_INNERMOST = re.compile(r"\$\{([^${}]*)\}")
_ESCAPED = re.compile(r"(?<!\\)(?:\\\\)*\\\$\{")
_RESOLVER = re.compile(r"\s*[A-Za-z_][\w.]*\s*:")
#: Assumed characters of an environment variable, or of anything else that is not a value of the config.
_UNKNOWN = 1000
_Path = tuple[str, ...]


def check_references(config: DictConfig) -> None:
    """Raise `UserError` if the references of a config expand to too much, or if one is inside another."""
    raw = OmegaConf.to_container(config, resolve=False)
    try:
        _Sizes(raw).of((), raw)
    except RecursionError:
        raise UserError("the config's references ${...} lead from one to the next without end: write values") from None


class _Sizes:
    """Expanded sizes of values: the characters of text, and 1 for every other value."""

    def __init__(self, raw: Any) -> None:
        self._raw = raw
        self._known: dict[_Path, int] = {}
        self._open: set[_Path] = set()

    def of(self, path: _Path, value: Any) -> int:
        """Return the expanded size of a value and all below it. Raise `UserError` if it is too large."""
        if path in self._open:
            # OmegaConf reports circles with the key.
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
        remainder = _ESCAPED.sub("", value)
        while match := _INNERMOST.search(remainder):
            size += sum(self._of_target(key, path[:-1]) for key in _keys(match[1], path))
            if size > MAX_EXPANDED:
                raise UserError(f"{_name(path)}: its references ${{...}} come to over {MAX_EXPANDED:,} letters: write less")
            # A reference inside another is part of a key whose value is not known yet. The mark makes `_keys` refuse it.
            remainder = f"{remainder[: match.start()]}\0{remainder[match.end() :]}"
        return size

    def _of_target(self, key: str, parent: _Path) -> int:
        name = key.strip().strip("'\"")
        levels_up = len(name) - len(name.lstrip("."))
        path = (*(parent[: max(0, len(parent) - levels_up + 1)] if levels_up else ()), *re.findall(r"[^.\[\]]+", name))
        value = self._raw
        for depth, part in enumerate(path):
            if isinstance(value, dict):
                value = value.get(part, value.get(int(part)) if part.isdecimal() else None)
            elif isinstance(value, list):
                value = value[int(part)] if part.isdecimal() and int(part) < len(value) else None
            else:
                # A reference on the way to the target: use the size of the whole value that it names.
                path = path[:depth]
                break
        return _UNKNOWN if value is None else self.of(path, value)


def _keys(inside: str, path: _Path) -> list[str]:
    """Return the keys that a reference names: one, or the arguments of a resolver."""
    resolver = _RESOLVER.match(inside)
    keys = inside[resolver.end() :].split(",") if resolver else [inside]
    if any("\0" in key for key in keys):
        raise UserError(f"{_name(path)}: it has a reference ${{...}} inside another: write the key itself")
    return keys


def _name(path: _Path) -> str:
    return ".".join(path)[:80]
