"""Text of Hydra's grammar: quoting, escaping and parsing of values and `key=value` words."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException

from render.errors import UserError

#: Text that Hydra's grammar reads without quotes: layers, terms such as 0.5*mixed5, modes.
_PLAIN = re.compile(r"(?:\d[\d.]*\*)?[A-Za-z_][\w./*:+-]*")
_RESERVED = {"null", "true", "false", "nan", "inf", "yes", "no", "on", "off"}


def name_text(value: object) -> str:
    """Return a file name or free text as a word's value, for keys where Hydra's grammar reads only quoted text."""
    text = "null" if value is None else str(value)
    # Hydra would remove quotes that are part of the name.
    return quoted(text) if value is not None and is_hydras(text) else text


def hydra_text(value: object) -> str:
    """Return a value in Hydra's grammar."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list | tuple):
        return "[" + ",".join(map(hydra_text, value)) + "]"
    if isinstance(value, Mapping):
        return "{" + ",".join(f"{key}:{hydra_text(inner)}" for key, inner in value.items()) + "}"
    if isinstance(value, str):
        return value if _PLAIN.fullmatch(value) and value.lower() not in _RESERVED else quoted(value)
    return f"{value:.0f}" if isinstance(value, float) and value.is_integer() and abs(value) < 1e15 else repr(value)


def quoted(text: str) -> str:
    """Return text in quotation marks for Hydra's grammar. Backslashes before a quotation mark are doubled."""
    escaped = re.sub(r'(\\*)"', lambda match: match[1] * 2 + r"\"", text)
    return '"' + re.sub(r"(\\+)$", lambda match: match[1] * 2, escaped) + '"'


def is_hydras(value: str) -> bool:
    """Return True if Hydra's grammar reads the value of a `PATH_KEYS` key: null or in quotes. Others are literal text."""
    return value == "null" or (len(value) > 1 and value[0] in "'\"" and value[-1] == value[0])


def literals(value: Any) -> Any:
    """Return recorded settings with all text escaped, so that OmegaConf resolves no interpolation in it."""
    if isinstance(value, dict):
        return {key: literals(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [literals(inner) for inner in value]
    return literal(value) if isinstance(value, str) else value


def literal(value: str) -> str:
    """Return text escaped so that OmegaConf resolves no interpolation in it."""
    return re.sub(r"(\\*)\$\{", lambda match: match[1] * 2 + r"\${", value)


def parsed_word(word: str) -> Override:
    """Return `key=value` as parsed by Hydra. Raise `UserError` if Hydra cannot read it."""
    try:
        return OverridesParser.create().parse_override(word)
    except HydraException as error:
        raise UserError(f"{word!r} cannot be read ({first_line(error)}): put the value in quotes") from None
    except RecursionError:
        raise UserError(f"{word[:80]}... is nested too deep: write fewer brackets") from None


def first_line(error: Exception) -> str:
    """Return the first line of an error's message, or else the name of its class."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0].strip()


def one_line(error: Exception) -> str:
    """Return the error's message on one line, without Hydra's list of search paths."""
    # If Hydra's message is empty, OmegaConf's gives the reason.
    message = (str(error) or str(error.__cause__ or "")).partition("Config search path:")[0]
    lines = [line.strip() for line in message.splitlines() if line.strip()]
    return " ".join(lines) if lines else type(error).__name__
