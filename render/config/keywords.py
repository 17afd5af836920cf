"""Configs from Python values, which are data: no text in them is Hydra's grammar or looked up anywhere."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, is_dataclass
from typing import Any

from hydra.core.global_hydra import GlobalHydra
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from render.config.compose import compose_root, groups_of, refuse_unknown, to_config, type_error
from render.config.hydra_text import literals
from render.config.root_kinds import JOB
from render.config.schema import Config
from render.errors import UserError


def config_of(root: str, settings: Mapping[str, Any]) -> Config:
    """Return the job that a root config makes with settings in place of its own.

    Args:
        root: A name in `conf/`, such as `preview`, or the path of a YAML file.
        settings: Values by key: dotted (`"octaves.count"`), nested (`{"octaves": {"count": 4}}`), or a choice of a group
            (`{"model": "googlenet"}`).

    Raises:
        UserError: For an unknown key, a value of another type, or one that cannot mean anything.
    """
    flat = dict(flattened(settings))
    with untouched_hydra():
        groups = groups_of(root)
        choices = {key: value for key, value in flat.items() if key in groups}
        for key, value in choices.items():
            if value not in groups[key]:
                raise UserError(f"there is no {key} {value!r}: choose {' or '.join(groups[key])}")
        composed = compose_root(JOB, root, [f"{key}={value}" for key, value in choices.items()])
        for key, value in flat.items():
            if key not in choices:
                refuse_unknown(key, {})
                try:
                    OmegaConf.update(composed, key, literals(value), force_add=True)
                except OmegaConfBaseException as error:
                    raise UserError(type_error(error, key)) from None
        return to_config(composed, root, JOB)


def flattened(settings: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield every setting by its dotted key; paths become text, tuples lists. Mappings of free keys stay whole."""
    for key, value in settings.items():
        name = f"{prefix}{key}"
        if isinstance(value, Mapping) and name not in ("objective.mask", "farm.worker.resources"):
            yield from flattened(value, f"{name}.")
        else:
            yield name, plain(value)


def plain(value: Any) -> Any:
    """Return a value in the types that YAML has."""
    if is_dataclass(value) and not isinstance(value, type):
        return plain(asdict(value))
    if isinstance(value, Mapping):
        return {str(key): plain(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple | range):
        return [plain(inner) for inner in value]
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    # NumPy's numbers.
    return value.item() if hasattr(value, "item") and getattr(value, "ndim", None) == 0 else value


@contextmanager
def untouched_hydra() -> Iterator[None]:
    """Inside, configs are composed; afterwards Hydra is as the caller's own program had it."""
    before = GlobalHydra.instance().hydra
    try:
        yield
    finally:
        GlobalHydra.instance().hydra = before
