"""A job's settings as the words that a user would type for them."""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from functools import cache
from typing import Any

import yaml  # type: ignore[import-untyped]

from render.config.compose import load_config, root_configs, schema_keys
from render.system.paths import shipped_configs

#: What Hydra's grammar reads as the very text: layers, terms such as 0.5*mixed5, modes.
_PLAIN = re.compile(r"(?:\d[\d.]*\*)?[A-Za-z_][\w./*:+-]*")
_RESERVED = {"null", "true", "false", "nan", "inf", "yes", "no", "on", "off"}
#: Sections and keys that do not decide the picture.
_ASIDE = ("farm", "checkpoint", "overwrite", "fresh", "quiet", "log", "output.dir", "output.path")
#: What an objective of `conf/objective` is known by.
_BY_MODEL = "objective.by_model"
#: Names that may hold any character: they are not read by Hydra's grammar unless they are in quotes.
_NAMES = ("name", "image", "model.weights", "output.profile", "output.title", "output.author")


def render_command(settings: Mapping[str, Any]) -> str:
    """The `make render ...` that gives a job these settings, a config as plain data; for a shell to read.

    Only what differs from the root config of the job's name, or from the default one, is spelled out.
    """
    name = str(settings.get("name", ""))
    root = name if name in root_configs() else "preview"
    return make_command("render", ([] if root == "preview" else [f"conf={root}"]) + differing_words(settings, root))


def differing_words(settings: Mapping[str, Any], root: str, aside: Sequence[str] = ()) -> list[str]:
    """The `key=value` that turn a root config that ships into these settings, a config as plain data.

    Left out are `aside`, sections or keys, and those that do not decide the picture.
    """
    usual = _usual(root)
    words = []
    for key, value in _leaves(settings).items():
        if usual[key] == value or any(key == one or key.startswith(f"{one}.") for one in (*_ASIDE, *aside)):
            continue
        preset = next((name for name, by_model in _presets() if by_model == value), None) if key == _BY_MODEL else None
        if preset is not None:
            words.append(f"objective={preset}")
        else:
            words.append(f"{key}={name_text(value) if key in _NAMES else hydra_text(value)}")
    return words


def make_command(command: str, words: Sequence[str]) -> str:
    """`make COMMAND key=value ...` as it is typed into a shell."""
    return " ".join(["make", command, *map(shlex.quote, words)])


@cache
def _usual(root: str) -> dict[str, Any]:
    """What a root config that ships sets, by dotted key."""
    return _leaves(asdict(load_config(root, [])))


@cache
def _presets() -> tuple[tuple[str, Any], ...]:
    """The objectives in `conf/objective` with what each has for several models."""
    found = [
        (path.stem, yaml.safe_load(path.read_text(encoding="utf-8")).get("by_model"))
        for path in sorted((shipped_configs() / "objective").glob("*.yaml"))
    ]
    return tuple((name, by_model) for name, by_model in found if by_model)


def _leaves(settings: Mapping[str, Any]) -> dict[str, Any]:
    """The settings by dotted key, as the schema has keys: a mapping that is a value, such as a mask's, stays whole."""
    found = {}
    for key in schema_keys():
        value: Any = settings
        for part in key.split("."):
            if not isinstance(value, Mapping) or part not in value:
                break
            value = value[part]
        else:
            found[key] = value
    return found


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
