"""Python values as the words of a command line, in Hydra's grammar."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from render.config.compose import PATH_KEYS, is_hydras, quoted
from render.errors import UserError


def word_of(key: str, values: Sequence[Any]) -> str:
    """Return `key=VALUE`, or `key=VALUE,VALUE` for several; raises `UserError` for what no such word can say."""
    if len(values) == 1 and isinstance(values[0], str) and key in PATH_KEYS and not is_hydras(values[0]):
        return f"{key}={values[0]}"
    return f"{key}={','.join(_text(key, value) for value in values)}"


def _text(key: str, value: Any) -> str:
    match value:
        case None:
            return "null"
        case bool():
            return str(value).lower()
        case int():
            return str(value)
        case float() if math.isfinite(value):
            return repr(value)
        case str() if "${" not in value:
            return quoted(value)
        case Mapping():
            return "{" + ",".join(f"{_text(key, name)}:{_text(key, inner)}" for name, inner in value.items()) + "}"
        case list() | tuple():
            return "[" + ",".join(_text(key, inner) for inner in value) + "]"
    raise UserError(f"{key}={value!r}: give numbers, text without ${{, true, false, None, or lists of those")
