"""Composition of configs from command-line words. Only this module, its helpers and the sweeps use Hydra."""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from render.config.film_schema import FilmJob
from render.config.hydra_files import check_tree, use_checked_files
from render.config.hydra_text import first_line, is_hydras, literal, literals, one_line, parsed_word, quoted
from render.config.references import check_references
from render.config.root_kinds import FILM, FILM_ROOTS, JOB, SWEEP, SWEEP_ROOTS, C, Schema
from render.config.schema import Config, NodeConfig
from render.config.sweep_schema import SweepJob
from render.config.yaml_files import LONGEST_NUMBER, UnsafeYaml, load_yaml, read_yaml_text
from render.errors import UserError
from render.system.paths import shipped_configs, shipped_orders

#: Keys of all schemas whose values are file names or free text. These may hold characters that Hydra's grammar reserves.
PATH_KEYS = (
    "name", "image", "model.weights", "model.labels", "output.dir", "output.path", "output.profile", "output.match",
    "output.title", "output.author", "farm.scratch", "layer", "channels", "sweep.dir", "sweep.points", "sweep.channels",
    "sweep.breed.favourites", "film.run",
)  # fmt: skip

#: Beginning of the word that names the favourites to breed from.
BREED_FROM = "from="

#: Groups that a user's root config need not name in its defaults list.
_OPTIONAL_GROUPS = ("node", "look")
#: Prefixes of the keys of a sweep that any key may follow.
FREE_KEYS = ("sweep.axes.", "sweep.breed.ranges.")
#: A number that is too long to be intended.
_ENDLESS = re.compile(rf"\d{{{LONGEST_NUMBER + 1},}}")


def load_config(root: str, overrides: Sequence[str]) -> Config:
    """Return the job of a root config with `key=value` overrides; see `load`."""
    return load(JOB, root, overrides)


def load(schema: Schema[C], root: str, overrides: Sequence[str]) -> C:
    """Return the config of a root config with overrides.

    Args:
        schema: Kind of config.
        root: Name of a root config in `conf/` (`poster`) or path of a user's YAML file.
        overrides: Words `key=value`.

    Raises:
        UserError: The root config or a key is unknown, or a value has the wrong type or is invalid.
    """
    return to_config(compose_root(schema, root, overrides), root, schema)


def compose_root(schema: Schema[C], root: str, overrides: Sequence[str]) -> DictConfig:
    """Return Hydra's composition of a root config and overrides, not yet checked for types and values."""
    directory, name = _locate(root, schema)
    groups = _groups(directory, schema)
    settable_keys = [key for key in (*schema_keys(schema), *_sections(schema)) if key not in groups]
    words = []
    paths: dict[str, str] = {}
    for word in overrides:
        key, _, value = _checked(word, groups, schema).partition("=")
        if key in PATH_KEYS and not is_hydras(value):
            paths[key] = value
        else:
            paths.pop(key, None)
            # ++ also sets keys of the schema that a user's YAML file does not mention.
            words.append(f"++{word}" if key in settable_keys or key.startswith(FREE_KEYS) else word)
    if directory != shipped_configs():
        words.append(f"hydra.searchpath=[{quoted('file://' + str(shipped_configs()))}]")
    try:
        check_tree(name, (directory, shipped_configs()))
        config = _composed(directory, name, words)
        for key, value in paths.items():
            OmegaConf.update(config, key, literal(value), force_add=True)
    except (HydraException, OmegaConfBaseException) as error:
        if "Cannot merge" in str(error.__cause__) and "object_type=list" in str(error.__cause__):
            key = getattr(error.__cause__, "full_key", root)
            raise UserError(f"{key}: must be a list in brackets, such as {key}=[A,B]") from None
        raise UserError(f"{one_line(error)} (while composing config {root!r})") from None
    except UnsafeYaml as error:
        raise UserError(f"config {root!r} is not valid YAML: {error}") from None
    except RecursionError:
        raise UserError(f"config {root!r} is nested too deep, or its defaults lead back to it: name each once") from None
    except OSError as error:
        raise UserError(f"config {root!r} cannot be read ({error.strerror or error}): give a file of YAML") from None
    check_references(config)
    return config


def _composed(directory: Path, name: str, words: Sequence[str]) -> DictConfig:
    """Return Hydra's composition of a root config.

    Words for the groups `_OPTIONAL_GROUPS` also work if its defaults list does not name these groups.
    """
    GlobalHydra.instance().clear()
    use_checked_files()
    with initialize_config_dir(str(directory.resolve()), version_base="1.3"):
        while True:
            try:
                return compose(name, overrides=list(words))
            except HydraException as error:
                if (needed := re.match(r"In 'look/(.*?)': Could not override", str(error))) is not None:
                    raise UserError(
                        f"look={needed[1]} chooses a model and an objective: have the config's defaults list name a model "
                        "and an objective"
                    ) from None
                missing = next(
                    (group for group in _OPTIONAL_GROUPS if str(error).startswith(f"Could not override '{group}'")), None
                )
                if missing is None or not any(word.startswith(f"{missing}=") for word in words):
                    raise
                words = [f"+{word}" if word.startswith(f"{missing}=") else word for word in words]


def to_config(composed: DictConfig, root: str, schema: Schema[C]) -> C:
    """Return a composed `DictConfig` as a validated config. Raise `UserError` if it is invalid."""
    _refuse_unknown(composed, root, schema)
    try:
        for key in OmegaConf.missing_keys(composed):
            raise UserError(f"{key} has no value, only ??? (in config {root!r}): give it one, such as {key}=VALUE")
        config = OmegaConf.to_object(OmegaConf.merge(OmegaConf.structured(schema.kind), composed))
    except OmegaConfBaseException as error:
        raise UserError(type_error(error, root)) from None
    assert isinstance(config, schema.kind)
    return schema.check(config)


def fill_missing(composed: DictConfig, schema: Schema[C]) -> set[str]:
    """Set keys with the value ??? to the schema's defaults, and return them. Raise `UserError` if the config is invalid."""
    try:
        missing = OmegaConf.missing_keys(composed)
    except OmegaConfBaseException as error:
        raise UserError(type_error(error, "config")) from None
    for key in missing:
        OmegaConf.update(composed, key, OmegaConf.select(OmegaConf.structured(schema.kind), key), force_add=True)
    return missing


def type_error(error: OmegaConfBaseException, root: str) -> str:
    """Return a one-line message for a value of the wrong type. It names `root` if the error names no key."""
    key = getattr(error, "full_key", None) or root
    reason = first_line(error).replace("value 'None'", "value null")
    is_list = "is not a ListConfig" in reason
    return f"{key}: " + (f"must be a list in brackets, such as {key}=[A,B]" if is_list else reason)


def recorded_config(recorded: Mapping[str, Any], overrides: Sequence[str], allowed: Sequence[str]) -> Config:
    """Return the config in a run's `run.json`, with overrides.

    The record may come from somebody else. `${...}` in it is plain text and never resolved. The caller has to remove the
    places that the record names.

    Args:
        recorded: The config in `run.json`.
        overrides: Words `key=value`.
        allowed: Prefixes of the keys that may be overridden.

    Raises:
        UserError: A key may not be overridden, a value is invalid, or the record comes from another version.
    """
    try:
        composed = OmegaConf.create(literals(dict(recorded)))
    except OmegaConfBaseException as error:
        raise UserError(f"run.json: {first_line(error)}") from None
    assert isinstance(composed, DictConfig)
    for word in overrides:
        key, _, value = _checked(word, {}, JOB).partition("=")
        key = key.lstrip("+")
        if not key.startswith(tuple(allowed)):
            raise UserError(f"{key} cannot be changed without dreaming again; these can: {', '.join(allowed)}")
        is_literal = key in PATH_KEYS and not is_hydras(value)
        try:
            parsed = literal(value) if is_literal else OverridesParser.create().parse_override(word).value()
            OmegaConf.update(composed, key, parsed, force_add=True)
        except (HydraException, OmegaConfBaseException) as error:
            raise UserError(f"{word!r}: {first_line(error)}") from None
    try:
        return to_config(composed, "run.json", JOB)
    except (TypeError, ValueError, ArithmeticError, AttributeError, LookupError) as error:
        # A record can hold values that no command line can produce.
        raise UserError(f"run.json: its config is none of this program ({one_line(error)})") from None


def root_configs(schema: Schema = JOB) -> list[str]:
    """Return the names of the root configs in `conf/` that a schema may use, sorted."""
    names = sorted(path.stem for path in shipped_configs().glob("*.yaml"))
    return [name for name in names if name not in schema.others and (schema.roots is None or name in schema.roots)]


def is_sweep(root: str, words: Sequence[str]) -> bool:
    """Return True if a root config has a `sweep` section, or if words set one."""
    is_said = root in SWEEP_ROOTS or any(word.lstrip("+~").startswith(("sweep.", BREED_FROM)) for word in words)
    return is_said or (root not in FILM_ROOTS and _has_section(root, "sweep", SWEEP))


def is_film(root: str, words: Sequence[str]) -> bool:
    """Return True if a root config has a `film` section, or if words set one or sweep its keys."""
    is_said = root in FILM_ROOTS or any(word.lstrip("+~").startswith(("film.", "sweep.axes.film.")) for word in words)
    return is_said or (root.endswith((".yaml", ".yml")) and _has_section(root, "film", FILM))


def _has_section(root: str, section: str, schema: Schema) -> bool:
    directory, name = _locate(root, schema)
    try:
        document = load_yaml(read_yaml_text(directory / f"{name}.yaml"))
    except (OSError, UnsafeYaml):
        return False  # Composing the config reports the error.
    return isinstance(document, dict) and section in document


def node_types() -> list[NodeConfig]:
    """Return the node types in `conf/node` that have the speeds needed for time estimates."""
    schema, paths = OmegaConf.structured(NodeConfig), sorted((shipped_configs() / "node").glob("*.yaml"))
    nodes = [OmegaConf.to_object(OmegaConf.merge(schema, OmegaConf.load(path))) for path in paths]
    return [node for node in nodes if isinstance(node, NodeConfig) and node.known]


def groups_of(root: str, schema: Schema = JOB) -> dict[str, list[str]]:
    """Return the config groups that a root config can use, such as `model`, with the choices of each."""
    return _groups(_locate(root, schema)[0], schema)


def refuse_unknown(key: str, groups: Mapping[str, Sequence[str]], schema: Schema = JOB) -> None:
    """Raise `UserError` with the most similar key unless `key` is a key, section or group, or belongs to Hydra."""
    keys = schema_keys(schema)
    if not (key in keys or key in _sections(schema) or key in groups or key.startswith("hydra.")):
        raise UserError(_unknown_key(key, [*keys, *groups]))


@cache
def schema_keys(schema: Schema = JOB) -> tuple[str, ...]:
    """Return all dotted keys that a config may set."""
    return tuple(_leaves(OmegaConf.to_container(OmegaConf.structured(schema.kind))))


def _locate(root: str, schema: Schema) -> tuple[Path, str]:
    if root.endswith((".yaml", ".yml")):
        try:
            path = Path(root).expanduser()
            exists, regular = path.exists(), path.is_file()
        except (OSError, RuntimeError, ValueError) as error:
            raise UserError(f"conf={root}: {one_line(error)}") from None
        if not regular:
            raise UserError(f"conf={root}: {'this is no file' if exists else 'there is no such file'}")
        if path.suffix != ".yaml":
            raise UserError(f"conf={root}: give the file a name that ends in .yaml")
        return path.parent.absolute(), path.stem
    root_names = root_configs(schema)
    if schema.kind is Config and root in SWEEP_ROOTS:
        raise UserError(f"conf={root} is a sweep: make sweep conf={root}")
    if root in FILM_ROOTS and root in schema.others:
        raise UserError(f"conf={root} is a film: make film conf={root}")
    if root not in root_names:
        close_matches = difflib.get_close_matches(root, root_names, n=1)
        hint = f"did you mean {close_matches[0]}? " if close_matches else ""
        verb = "there are" if len(root_names) > 1 else "there is"
        raise UserError(f"there is no config {root!r}: {hint}{verb} {', '.join(root_names)}, or a path to a .yaml file")
    return shipped_configs(), root


def _checked(word: str, groups: Mapping[str, Sequence[str]], schema: Schema) -> str:
    """Return the override. Raise `UserError` if its key is unknown or Hydra cannot read its value."""
    full_key, equals, value = word.partition("=")
    key = full_key.lstrip("+~").partition("@")[0]
    if not equals and not word.startswith("~"):
        raise UserError(f"{word!r} is not key=value")
    section = key.partition(".")[0]
    if schema.kind is Config and section in ("sweep", "film"):
        raise UserError(f"{key} is of {section}s alone: make {section} {word}")
    axis = issubclass(schema.kind, SweepJob) and key.startswith(FREE_KEYS)
    if not axis:
        refuse_unknown(key, groups, schema)
    if full_key in PATH_KEYS and not is_hydras(value):
        return word
    if number := _ENDLESS.search(value):
        raise UserError(f"{full_key}: a number of {len(number[0]):,} digits is too long")
    parsed = parsed_word(word)
    if parsed.is_sweep_override():
        hint = "; make sweep renders each" if schema.kind in (Config, FilmJob) else ""
        raise UserError(f"{word!r} has several values where one is needed: a list is {full_key}=[A,B]{hint}")
    choice = parsed.value()
    # For a group in another package (objective@x), Hydra lists the choices itself.
    if equals and key in groups and (choice not in groups[key] if full_key == key else not isinstance(choice, str)):
        subkeys = ", ".join(name for name in schema_keys(schema) if name.startswith(f"{key}."))
        hint = "" if isinstance(choice, str) or not subkeys else f"; or do you mean {subkeys}?"
        close_matches = difflib.get_close_matches(str(choice), groups[key], n=1)
        guess = f"did you mean {close_matches[0]}? " if close_matches else ""
        raise UserError(f"there is no {key} {value!r}: {guess}choose {' or '.join(groups[key])}{hint}")
    return word


def _groups(directory: Path, schema: Schema) -> dict[str, list[str]]:
    """Return the config groups in `conf/` and in the root config's directory, with the choices of each."""
    choices_by_group: dict[str, set[str]] = {}
    for folder in (directory, shipped_configs()):
        for path in folder.glob("*/*.yaml"):
            if path.parent == shipped_orders():
                continue
            if schema.groups is None or path.parent.name in schema.groups:
                choices_by_group.setdefault(path.parent.name, set()).add(path.stem)
    return {group: sorted(choices) for group, choices in choices_by_group.items()}


def _refuse_unknown(composed: DictConfig, root: str, schema: Schema) -> None:
    schema_names = schema_keys(schema)
    for key in _leaves(OmegaConf.to_container(composed)):
        if key not in schema_names and not any(key.startswith(f"{parent_key}.") for parent_key in schema_names):
            section = key.partition(".")[0]
            if schema.kind is Config and section in ("sweep", "film"):
                raise UserError(f"config {root!r} is a {section}: make {section} conf={root}")
            raise UserError(f"{_unknown_key(key, schema_names)} (in config {root!r})")


def _unknown_key(key: str, names: Sequence[str]) -> str:
    """Return a message for a key that is none of `names`, with the most similar one."""
    # Users often write only the last word of a key, such as steps for octaves.steps.
    keys_by_last_word = {name.rpartition(".")[2]: name for name in reversed(names)}
    close_matches = difflib.get_close_matches(key, names, n=1, cutoff=0.75)
    close_matches = close_matches or [
        keys_by_last_word[word]
        for word in difflib.get_close_matches(key.rpartition(".")[2], keys_by_last_word, n=1, cutoff=0.75)
    ]
    close_matches = (
        [keys_by_last_word[key]]
        if key in keys_by_last_word
        else close_matches or difflib.get_close_matches(key, names, n=1, cutoff=0.5)
    )
    return f"unknown config key {key!r}" + (f": did you mean {close_matches[0]!r}?" if close_matches else "")


def _sections(schema: Schema) -> list[str]:
    """Return the keys of sections. Hydra accepts them as well: `octaves={count: 3}`."""
    return sorted({key[:position] for key in schema_keys(schema) for position, letter in enumerate(key) if letter == "."})


def _leaves(container: Any, prefix: str = "") -> list[str]:
    if not isinstance(container, dict):
        return [prefix[:-1]]
    if not container:
        return [prefix[:-1]] if prefix else []
    return [leaf for key, value in container.items() for leaf in _leaves(value, f"{prefix}{key}.")]
