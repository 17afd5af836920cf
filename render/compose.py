"""From words on the command line to a `Config`: the only place, with the sweeps, that knows Hydra."""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import yaml  # type: ignore[import-untyped]
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from render.config import Config, validate
from render.errors import UserError
from render.paths import shipped_configs
from render.schedule import check_stages

#: Values of these keys are file names or free text, which may hold characters that Hydra's grammar keeps for itself.
_PATH_KEYS = (
    "name", "image", "model.weights", "output.dir", "output.path", "output.profile", "output.title", "output.author",
    "farm.scratch",
)  # fmt: skip


def load_config(root: str, overrides: Sequence[str]) -> Config:
    """The job that a root config makes with `key=value` overrides applied.

    `root` is a name in `conf/` (`poster`) or the path of a YAML file of the user's own. Raises `UserError` for an unknown
    root config or key, a value of the wrong type, or one that cannot mean anything.
    """
    directory, name = _locate(root)
    groups = _groups(directory)
    ours = [key for key in (*schema_keys(), *_sections()) if key not in groups]
    words = []
    paths: dict[str, str] = {}
    for word in overrides:
        key, _, value = _checked(word, groups).partition("=")
        if key in _PATH_KEYS and not _is_hydras(value):
            paths[key] = value
        else:
            paths.pop(key, None)
            # ++ sets a key that a user's own YAML leaves out, too: the schema knows it.
            words.append(f"++{word}" if key in ours else word)
    if directory != shipped_configs():
        words.append(f"hydra.searchpath=[{_quote('file://' + str(shipped_configs()))}]")
    GlobalHydra.instance().clear()
    try:
        with initialize_config_dir(str(directory.resolve()), version_base="1.3"):
            composed = compose(name, overrides=words)
        for key, value in paths.items():
            OmegaConf.update(composed, key, _literal(value), force_add=True)
    except (HydraException, OmegaConfBaseException) as error:
        if "Cannot merge" in str(error.__cause__) and "object_type=list" in str(error.__cause__):
            key = getattr(error.__cause__, "full_key", root)
            raise UserError(f"{key}: must be a list in brackets, such as {key}=[A,B]") from None
        raise UserError(f"{_one_line(error)} (while composing config {root!r})") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UserError(f"config {root!r} is not valid YAML: {_one_line(error)}") from None
    return to_config(composed, root)


def to_config(composed: DictConfig, root: str) -> Config:
    """A composed DictConfig as a validated `Config`."""
    schema = OmegaConf.structured(Config)
    _refuse_unknown(composed, root)
    try:
        for key in OmegaConf.missing_keys(composed):
            raise UserError(f"{key} has no value, only ??? (in config {root!r}): give it one, such as {key}=VALUE")
        config = OmegaConf.to_object(OmegaConf.merge(schema, composed))
    except OmegaConfBaseException as error:
        key = getattr(error, "full_key", None) or root
        why = _first_line(error)
        if "is not a ListConfig" in why:
            why = f"must be a list in brackets, such as {key}=[A,B]"
        raise UserError(f"{key}: {why}") from None
    assert isinstance(config, Config)
    return check_stages(validate(config))


def recorded_config(recorded: Mapping[str, Any], overrides: Sequence[str], allowed: Sequence[str]) -> Config:
    """The config that a run's `run.json` holds, with overrides of keys that begin with one of `allowed`.

    Raises `UserError` for other keys, for values that mean nothing, and for a record of another version of the program.
    """
    composed = OmegaConf.create(dict(recorded))
    assert isinstance(composed, DictConfig)
    for word in overrides:
        key, _, value = _checked(word, {}).partition("=")
        key = key.lstrip("+")
        if not key.startswith(tuple(allowed)):
            raise UserError(f"{key} cannot be changed without dreaming again; these can: {', '.join(allowed)}")
        plain = key in _PATH_KEYS and not _is_hydras(value)
        try:
            parsed = _literal(value) if plain else OverridesParser.create().parse_override(word).value()
            OmegaConf.update(composed, key, parsed, force_add=True)
        except (HydraException, OmegaConfBaseException) as error:
            raise UserError(f"{word!r}: {_first_line(error)}") from None
    return to_config(composed, "run.json")


def root_configs() -> list[str]:
    """Names of the root configs that ship."""
    return sorted(path.stem for path in shipped_configs().glob("*.yaml"))


@cache
def schema_keys() -> tuple[str, ...]:
    """Every key that a config may set, dotted."""
    return tuple(_leaves(OmegaConf.to_container(OmegaConf.structured(Config))))


def _locate(root: str) -> tuple[Path, str]:
    if root.endswith((".yaml", ".yml")):
        try:
            path = Path(root).expanduser()
            found = path.is_file()
        except (OSError, RuntimeError) as error:
            raise UserError(f"conf={root}: {_one_line(error)}") from None
        if not found:
            raise UserError(f"conf={root}: there is no such file")
        if path.suffix != ".yaml":
            raise UserError(f"conf={root}: give the file a name that ends in .yaml")
        return path.parent.absolute(), path.stem
    if root not in root_configs():
        near = difflib.get_close_matches(root, root_configs(), n=1)
        hint = f"did you mean {near[0]}? " if near else ""
        raise UserError(
            f"there is no config {root!r}: {hint}there are {', '.join(root_configs())}, or a path to a .yaml file"
        )
    return shipped_configs(), root


def _checked(word: str, groups: Mapping[str, Sequence[str]]) -> str:
    """The override, when its key is one of ours, a config group's or Hydra's, and Hydra can read its value."""
    written, equals, value = word.partition("=")
    key = written.lstrip("+~").partition("@")[0]
    if not equals and not word.startswith("~"):
        raise UserError(f"{word!r} is not key=value")
    keys = schema_keys()
    if not (key in keys or key in _sections() or key in groups or key.startswith("hydra.")):
        raise UserError(_unknown_key(key, [*keys, *groups]))
    if written in _PATH_KEYS and not _is_hydras(value):
        return word
    try:
        parsed = OverridesParser.create().parse_override(word)
    except HydraException as error:
        raise UserError(f"{word!r} cannot be read ({_first_line(error)}): put the value in quotes") from None
    if parsed.is_sweep_override():
        raise UserError(f"{word!r} has several values where one is needed: a list is {written}=[A,B]")
    if written in groups and parsed.value() not in groups[written]:
        inside = ", ".join(name for name in keys if name.startswith(f"{written}."))
        hint = "" if isinstance(parsed.value(), str) else f"; or do you mean {inside}?"
        raise UserError(f"there is no {written} {value!r}: choose {' or '.join(groups[written])}{hint}")
    return word


def _groups(directory: Path) -> dict[str, list[str]]:
    """The config groups, such as `model`, and the choices in each: ours, and those beside the root config."""
    found: dict[str, set[str]] = {}
    for place in (directory, shipped_configs()):
        for path in place.glob("*/*.yaml"):
            found.setdefault(path.parent.name, set()).add(path.stem)
    return {group: sorted(choices) for group, choices in found.items()}


def _refuse_unknown(composed: DictConfig, root: str) -> None:
    known = schema_keys()
    for key in _leaves(OmegaConf.to_container(composed)):
        if key not in known and not any(key.startswith(f"{whole}.") for whole in known):
            raise UserError(f"{_unknown_key(key, known)} (in config {root!r})")


def _unknown_key(key: str, known: Sequence[str]) -> str:
    # A bare last word, such as steps, is a likely slip for octaves.steps.
    words = {name.rpartition(".")[2]: name for name in reversed(known)}
    near = difflib.get_close_matches(key, known, n=1, cutoff=0.75)
    near = near or [words[word] for word in difflib.get_close_matches(key.rpartition(".")[2], words, n=1, cutoff=0.75)]
    near = [words[key]] if key in words else near or difflib.get_close_matches(key, known, n=1, cutoff=0.5)
    return f"unknown config key {key!r}" + (f": did you mean {near[0]!r}?" if near else "")


def _sections() -> list[str]:
    """The keys that hold others: `octaves={count: 3}` is good Hydra."""
    return sorted({key[:at] for key in schema_keys() for at, letter in enumerate(key) if letter == "."})


def _leaves(container: Any, prefix: str = "") -> list[str]:
    if not isinstance(container, dict):
        return [prefix[:-1]]
    if not container:
        return [prefix[:-1]] if prefix else []
    return [leaf for key, value in container.items() for leaf in _leaves(value, f"{prefix}{key}.")]


def _is_hydras(value: str) -> bool:
    """Whether a file name is left to Hydra's grammar: null, or in quotes. All others mean what they say."""
    return value == "null" or (len(value) > 1 and value[0] in "'\"" and value[-1] == value[0])


def _literal(value: str) -> str:
    """Text that OmegaConf takes for no interpolation."""
    return re.sub(r"(\\*)\$\{", lambda match: match[1] * 2 + r"\${", value)


def _quote(value: str) -> str:
    """Text as Hydra's grammar quotes it: what stands before a quotation mark needs its backslashes doubled."""
    escaped = re.sub(r"(\\*)'", lambda match: match[1] * 2 + r"\'", value)
    return "'" + re.sub(r"(\\+)$", lambda match: match[1] * 2, escaped) + "'"


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0].strip()


def _one_line(error: Exception) -> str:
    """The message, with its lines joined and without the list of places that Hydra looked in."""
    message = str(error).partition("Config search path:")[0]
    lines = [line.strip() for line in message.splitlines() if line.strip()]
    return " ".join(lines) if lines else type(error).__name__
