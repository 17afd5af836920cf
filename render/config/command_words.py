"""Conversion of a job's settings to the command-line words that set them."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from functools import cache
from typing import Any

import yaml  # type: ignore[import-untyped]

from render.config.compose import groups_of, load, root_configs, schema_keys
from render.config.hydra_text import hydra_text, name_text
from render.config.root_kinds import FILM, JOB, SWEEP
from render.config.schema import NO_LOOK
from render.config.sweep_kinds import FILM_SWEEP
from render.system.paths import shipped_configs

#: Sections and keys that do not affect the picture.
_ASIDE = ("farm", "checkpoint", "overwrite", "fresh", "quiet", "log", "output.dir", "output.path")
#: Key whose value identifies an objective of `conf/objective`.
_BY_MODEL = "objective.by_model"
#: Keys whose values may hold any character. Hydra's grammar reads these values only if they are in quotes.
_NAMES = (
    "name", "image", "model.weights", "model.labels", "output.profile", "output.match", "output.title", "output.author",
    "film.run",
)  # fmt: skip
#: Root config of each kind of film: values of `film.of`.
_FILM_ROOTS = {"zoom": "zoom", "footage": "footage", "flight": "flight", "steps": "flight"}


def render_command(settings: Mapping[str, Any]) -> str:
    """Return the `make render ...` command for a job with these settings, quoted for a shell.

    The command contains only the settings that differ from the root config with the job's name, or else from the default
    root config. `settings` is a config as plain data.
    """
    name = str(settings.get("name", ""))
    root = name if name in root_configs() else "preview"
    return make_command("render", ([] if root == "preview" else [f"conf={root}"]) + differing_words(settings, root))


def film_command(settings: Mapping[str, Any], extra: Sequence[str] = ()) -> str:
    """Return the `make film ...` command for a film with these settings and extra words, quoted for a shell.

    `settings` is a film's config as plain data.
    """
    root = film_root(settings)
    return make_command("film", [f"conf={root}", *differing_words(settings, root), *extra])


def film_root(settings: Mapping[str, Any]) -> str:
    """Return the root config of the kind of film that these settings make."""
    return _FILM_ROOTS[settings["film"]["of"]]


def differing_words(settings: Mapping[str, Any], root: str, aside: Sequence[str] = ()) -> list[str]:
    """Return the `key=value` words that turn a root config into these settings.

    Keys that do not affect the picture are left out.

    Args:
        settings: A config as plain data; with a section `film`, of a film.
        root: Name of a root config in `conf/`.
        aside: More sections or keys to leave out.
    """
    look = settings.get("look", NO_LOOK)
    words = [f"look={look}"] if look in _looks() and look != NO_LOOK else []
    root_settings = _usual(root, look if words else NO_LOOK, is_film="film" in settings)
    for key, value in _leaves(settings).items():
        if root_settings[key] == value or any(
            key == section or key.startswith(f"{section}.") for section in (*_ASIDE, "look", *aside)
        ):
            continue
        preset = next((name for name, by_model in _presets() if by_model == value), None) if key == _BY_MODEL else None
        if preset is not None:
            words.append(f"objective={preset}")
        else:
            words.append(f"{key}={name_text(value) if key in _NAMES else hydra_text(value)}")
    return words


def make_command(command: str, words: Sequence[str]) -> str:
    """Return `make COMMAND key=value ...`, quoted for a shell."""
    return " ".join(["make", command, *map(shlex.quote, words)])


@cache
def _usual(root: str, look: str, *, is_film: bool) -> dict[str, Any]:
    """Return the settings of a root config in `conf/` with a look, by dotted key."""
    return _leaves(asdict(load(FILM_SWEEP if is_film else SWEEP, root, [f"look={look}"]).job()))


@cache
def _looks() -> frozenset[str]:
    """Return the names of the looks in `conf/look`."""
    return frozenset(groups_of("preview")["look"])


@cache
def _presets() -> tuple[tuple[str, Any], ...]:
    """Return the names of the objectives in `conf/objective` that have `by_model`, with its value."""
    presets = [
        (path.stem, yaml.safe_load(path.read_text(encoding="utf-8")).get("by_model"))
        for path in sorted((shipped_configs() / "objective").glob("*.yaml"))
    ]
    return tuple((name, by_model) for name, by_model in presets if by_model)


def _leaves(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings by the schema's dotted keys. A mapping that is a value, such as a mask's, stays a mapping."""
    leaves = {}
    for key in schema_keys(FILM) if "film" in settings else schema_keys(JOB):
        value: Any = settings
        for part in key.split("."):
            if not isinstance(value, Mapping) or part not in value:
                break
            value = value[part]
        else:
            leaves[key] = value
    return leaves
