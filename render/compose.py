"""From words on the command line to a `Config`: the only place, with the sweeps, that knows Hydra."""

from __future__ import annotations

import difflib
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from render.config import Config, validate
from render.errors import UserError
from render.paths import shipped_configs

#: Values of these keys are file names, which may hold characters that Hydra's grammar keeps for itself.
_PATH_KEYS = ("image", "model.weights", "output.dir", "output.path")
_PLAIN = re.compile(r"^[\w./~:@%+\-]*$")


def load_config(root: str, overrides: Sequence[str]) -> Config:
    """The job that a root config makes with `key=value` overrides applied.

    `root` is a name in `conf/` (`poster`) or the path of a YAML file of the user's own. Raises `UserError` for an unknown
    root config or key, a value of the wrong type, or one that cannot mean anything.
    """
    directory, name = _locate(root)
    words = [_quoted(_checked_key(word, directory)) for word in overrides]
    if directory != shipped_configs():
        words.append(f"hydra.searchpath=[{_quote('file://' + str(shipped_configs()))}]")
    GlobalHydra.instance().clear()
    try:
        with initialize_config_dir(str(directory.resolve()), version_base="1.3"):
            composed = compose(name, overrides=words)
    except (HydraException, OmegaConfBaseException) as error:
        raise UserError(f"{_one_line(error)} (while composing config {root!r})") from None
    return to_config(composed, root)


def to_config(composed: DictConfig, root: str) -> Config:
    """A composed DictConfig as a validated `Config`."""
    schema = OmegaConf.structured(Config)
    _refuse_unknown(composed, root)
    try:
        config = OmegaConf.to_object(OmegaConf.merge(schema, composed))
    except OmegaConfBaseException as error:
        key = getattr(error, "full_key", None)
        raise UserError(f"{key or root}: {_first_line(error)}") from None
    assert isinstance(config, Config)
    return validate(config)


def root_configs() -> list[str]:
    """Names of the root configs that ship."""
    return sorted(path.stem for path in shipped_configs().glob("*.yaml"))


def schema_keys() -> list[str]:
    """Every key that a config may set, dotted."""
    return _leaves(OmegaConf.to_container(OmegaConf.structured(Config)))


def _locate(root: str) -> tuple[Path, str]:
    if root.endswith((".yaml", ".yml")):
        path = Path(root).expanduser()
        if not path.is_file():
            raise UserError(f"conf={root}: there is no such file")
        return path.parent.absolute(), path.stem
    if root not in root_configs():
        near = difflib.get_close_matches(root, root_configs(), n=1)
        hint = f"did you mean {near[0]}? " if near else ""
        raise UserError(
            f"there is no config {root!r}: {hint}there are {', '.join(root_configs())}, or a path to a .yaml file"
        )
    return shipped_configs(), root


def _checked_key(word: str, directory: Path) -> str:
    """The override, when its key is one of ours, a config group's or Hydra's."""
    key, equals, _ = word.partition("=")
    key = key.lstrip("+~")
    if not equals and not word.startswith("~"):
        raise UserError(f"{word!r} is not key=value")
    known = schema_keys()
    groups = [path.name for place in {directory, shipped_configs()} for path in place.iterdir() if path.is_dir()]
    key = key.partition("@")[0]
    if key in known or key in groups or key.startswith("hydra."):
        return word
    raise UserError(_unknown_key(key, known + groups))


def _refuse_unknown(composed: DictConfig, root: str) -> None:
    known = schema_keys()
    for key in _leaves(OmegaConf.to_container(composed)):
        if key not in known and not any(key.startswith(f"{whole}.") for whole in known):
            raise UserError(f"{_unknown_key(key, known)} (in config {root!r})")


def _unknown_key(key: str, known: list[str]) -> str:
    near = difflib.get_close_matches(key, known, n=1, cutoff=0.5)
    if not near:
        # A bare last word, such as steps, is a likely slip for octaves.steps.
        near = [name for name in known if name.rpartition(".")[2] == key.rpartition(".")[2]]
    return f"unknown config key {key!r}" + (f": did you mean {near[0]!r}?" if near else "")


def _leaves(container: Any, prefix: str = "") -> list[str]:
    if not isinstance(container, dict):
        return [prefix[:-1]]
    if not container:
        return [prefix[:-1]] if prefix else []
    return [leaf for key, value in container.items() for leaf in _leaves(value, f"{prefix}{key}.")]


def _quoted(word: str) -> str:
    """File names are taken literally unless the user has quoted them."""
    key, _, value = word.partition("=")
    if key not in _PATH_KEYS or _PLAIN.match(value) or value[:1] in ("'", '"'):
        return word
    return f"{key}={_quote(value)}"


def _quote(value: str) -> str:
    escaped = re.sub(r"(\\*)'", lambda match: match[1] * 2 + "\\'", value)
    return f"'{escaped}'"


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


def _one_line(error: Exception) -> str:
    """The first lines of Hydra's message as one sentence."""
    lines = [line.strip() for line in str(error).strip().splitlines() if line.strip()]
    return " ".join(lines[:2]) if lines else type(error).__name__
