"""A job's settings as the words that a user would type for them."""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from render.compose import load_config, root_configs
from render.config import Config

#: What Hydra's grammar reads as the very text: layers, terms such as 0.5*mixed5, modes.
_PLAIN = re.compile(r"(?:\d[\d.]*\*)?[A-Za-z_][\w./*:+-]*")
_RESERVED = {"null", "true", "false", "nan", "inf", "yes", "no", "on", "off"}
#: Sections and keys that do not decide the picture.
_ASIDE = ("farm", "checkpoint", "overwrite", "fresh", "quiet", "output.dir", "output.path")
#: Names that may hold any character: they are not read by Hydra's grammar unless they are in quotes.
_NAMES = ("name", "image", "model.weights", "output.profile", "output.title", "output.author")


def render_command(settings: Mapping[str, Any]) -> str:
    """The `make render ...` that gives a job these settings, a config as plain data; for a shell to read.

    Only what differs from the root config of the job's name, or from the default one, is spelled out.
    """
    name = str(settings.get("name", ""))
    root = name if name in root_configs() else "preview"
    usual = dict(_flat(asdict(load_config(root, []))))
    words = [] if root == "preview" else [f"conf={root}"]
    known = dict(_flat(asdict(Config()))).keys()
    for key, value in _flat(settings):
        aside = any(key == one or key.startswith(f"{one}.") for one in _ASIDE)
        if not aside and key in known and usual.get(key) != value:
            words.append(f"{key}={name_text(value) if key in _NAMES else hydra_text(value)}")
    return make_command("render", words)


def make_command(command: str, words: Sequence[str]) -> str:
    """`make COMMAND key=value ...` as it is typed into a shell."""
    # make takes a single dollar for a variable of its own.
    return " ".join(["make", command, *(shlex.quote(word).replace("$", "$$") for word in words)])


def _flat(settings: Mapping[str, Any], prefix: str = "") -> list[tuple[str, Any]]:
    pairs: list[tuple[str, Any]] = []
    for key, value in settings.items():
        pairs += _flat(value, f"{prefix}{key}.") if isinstance(value, Mapping) else [(f"{prefix}{key}", value)]
    return pairs


def name_text(value: object) -> str:
    """A file name or free text, as it is written where Hydra's grammar reads only quotes."""
    text = "null" if value is None else str(value)
    # Hydra would take off quotes that belong to the name.
    return _quoted(text) if value == "null" or (len(text) > 1 and text[0] in "'\"" and text[0] == text[-1]) else text


def hydra_text(value: object) -> str:
    """A value in Hydra's grammar."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list | tuple):
        return "[" + ",".join(map(hydra_text, value)) + "]"
    if isinstance(value, Mapping):
        return "{" + ",".join(f"{key}:{hydra_text(inner)}" for key, inner in value.items()) + "}"
    if isinstance(value, str):
        return value if _PLAIN.fullmatch(value) and value.lower() not in _RESERVED else _quoted(value)
    return f"{value:.0f}" if isinstance(value, float) and value.is_integer() and abs(value) < 1e15 else repr(value)


def _quoted(text: str) -> str:
    escaped = re.sub(r'(\\*)"', lambda match: match[1] * 2 + r"\"", text)
    return '"' + re.sub(r"(\\+)$", lambda match: match[1] * 2, escaped) + '"'
