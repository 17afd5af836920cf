"""From words on the command line to a `Config`, or to another schema: the only place, with the sweeps, that knows Hydra."""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Generic, TypeVar

from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from render.config.atlas_schema import AtlasConfig, validate_atlas
from render.config.hydra_files import check_tree, use_checked_files
from render.config.octave_settings import check_octaves
from render.config.references import check_references
from render.config.schema import Config, NodeConfig, validate
from render.config.sweep_schema import SweepJob, validate_sweep
from render.config.yaml_files import LONGEST_NUMBER, UnsafeYaml, load_yaml, read_yaml_text
from render.errors import UserError
from render.system.paths import shipped_configs

#: Values of these keys, of whichever schema, are file names or free text, which may hold characters that Hydra's grammar
#: keeps for itself.
PATH_KEYS = (
    "name", "image", "model.weights", "output.dir", "output.path", "output.profile", "output.title", "output.author",
    "farm.scratch", "layer", "channels", "sweep.dir", "sweep.points", "sweep.channels",
)  # fmt: skip

#: Root configs of the atlas, and of sweeps.
_ATLASES = ("atlas",)
_SWEEPS = ("channels", "grid", "layers")
#: Below this key any other may stand.
_AXES = "sweep.axes."
#: More digits than any number has that is meant.
_ENDLESS = re.compile(rf"\d{{{LONGEST_NUMBER + 1},}}")
C = TypeVar("C", Config, AtlasConfig, SweepJob)


@dataclass(frozen=True)
class Schema(Generic[C]):
    """A kind of config: its dataclass, what checks its values, the groups and the root configs in `conf/` that make it.

    None for `groups` and `roots` stands for all there are, but for the roots in `others`.
    """

    kind: type[C]
    check: Callable[[C], C]
    groups: tuple[str, ...] | None = None
    roots: tuple[str, ...] | None = None
    others: tuple[str, ...] = ()


def check_job(config: Config) -> Config:
    """The same config; `UserError` for the first value that cannot mean anything."""
    return check_octaves(validate(config))


def _check_sweep(job: SweepJob) -> SweepJob:
    # Only its own section: what is set for all points may need what an axis sets, so a job is checked point by point.
    validate_sweep(job.sweep)
    return job


JOB = Schema(Config, check_job, others=(*_ATLASES, *_SWEEPS))
ATLAS = Schema(AtlasConfig, validate_atlas, groups=("model",), roots=_ATLASES)
#: A job with a `sweep` section; a root config without one may be swept as well.
SWEEP = Schema(SweepJob, _check_sweep, others=_ATLASES)


def load_config(root: str, overrides: Sequence[str]) -> Config:
    """The job that a root config makes with `key=value` overrides applied; see `load`."""
    return load(JOB, root, overrides)


def load(schema: Schema[C], root: str, overrides: Sequence[str]) -> C:
    """The config that a root config makes with `key=value` overrides applied.

    `root` is a name in `conf/` (`poster`) or the path of a YAML file of the user's own. Raises `UserError` for an unknown
    root config or key, a value of the wrong type, or one that cannot mean anything.
    """
    return to_config(compose_root(schema, root, overrides), root, schema)


def compose_root(schema: Schema[C], root: str, overrides: Sequence[str]) -> DictConfig:
    """What Hydra makes of a root config and overrides, before types and values are checked; raises `UserError`."""
    directory, name = _locate(root, schema)
    groups = _groups(directory, schema)
    ours = [key for key in (*schema_keys(schema), *_sections(schema)) if key not in groups]
    words = []
    paths: dict[str, str] = {}
    for word in overrides:
        key, _, value = _checked(word, groups, schema).partition("=")
        if key in PATH_KEYS and not is_hydras(value):
            paths[key] = value
        else:
            paths.pop(key, None)
            # ++ sets a key that a user's own YAML leaves out, too: the schema knows it.
            words.append(f"++{word}" if key in ours or key.startswith(_AXES) else word)
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
        raise UserError(f"{_one_line(error)} (while composing config {root!r})") from None
    except UnsafeYaml as error:
        raise UserError(f"config {root!r} is not valid YAML: {error}") from None
    except RecursionError:
        raise UserError(f"config {root!r} is nested too deep, or its defaults lead back to it: name each once") from None
    except OSError as error:
        raise UserError(f"config {root!r} cannot be read ({error.strerror or error}): give a file of YAML") from None
    check_references(config)
    return config


def _composed(directory: Path, name: str, words: Sequence[str]) -> DictConfig:
    """What Hydra makes of a root config; nodes may be chosen where its defaults list leaves them, and all of ours, out."""
    GlobalHydra.instance().clear()
    use_checked_files()
    with initialize_config_dir(str(directory.resolve()), version_base="1.3"):
        try:
            return compose(name, overrides=list(words))
        except HydraException as error:
            if not str(error).startswith("Could not override 'node'"):
                raise
            return compose(name, overrides=[f"+{word}" if word.startswith("node=") else word for word in words])


def to_config(composed: DictConfig, root: str, schema: Schema[C]) -> C:
    """A composed DictConfig as a validated config."""
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
    """Sets keys that have no value, only ???, to what the schema has; returns them. Raises `UserError`."""
    try:
        missing = OmegaConf.missing_keys(composed)
    except OmegaConfBaseException as error:
        raise UserError(type_error(error, "config")) from None
    for key in missing:
        OmegaConf.update(composed, key, OmegaConf.select(OmegaConf.structured(schema.kind), key), force_add=True)
    return missing


def type_error(error: OmegaConfBaseException, root: str) -> str:
    """One line for a value that its key cannot hold; of the `root` config, where the error names no key."""
    key = getattr(error, "full_key", None) or root
    why = _first_line(error)
    return f"{key}: must be a list in brackets, such as {key}=[A,B]" if "is not a ListConfig" in why else f"{key}: {why}"


def recorded_config(recorded: Mapping[str, Any], overrides: Sequence[str], allowed: Sequence[str]) -> Config:
    """The config that a run's `run.json` holds, with overrides of keys that begin with one of `allowed`.

    What was recorded is data, and may be somebody else's: `${...}` in it is that very text, and nothing is looked up for
    it. The places that it names are for the caller to leave out. Raises `UserError` for other keys, for values that mean
    nothing, and for a record of another version of the program.
    """
    try:
        composed = OmegaConf.create(literals(dict(recorded)))
    except OmegaConfBaseException as error:
        raise UserError(f"run.json: {_first_line(error)}") from None
    assert isinstance(composed, DictConfig)
    for word in overrides:
        key, _, value = _checked(word, {}, JOB).partition("=")
        key = key.lstrip("+")
        if not key.startswith(tuple(allowed)):
            raise UserError(f"{key} cannot be changed without dreaming again; these can: {', '.join(allowed)}")
        plain = key in PATH_KEYS and not is_hydras(value)
        try:
            parsed = literal(value) if plain else OverridesParser.create().parse_override(word).value()
            OmegaConf.update(composed, key, parsed, force_add=True)
        except (HydraException, OmegaConfBaseException) as error:
            raise UserError(f"{word!r}: {_first_line(error)}") from None
    try:
        return to_config(composed, "run.json", JOB)
    except (TypeError, ValueError, ArithmeticError, AttributeError, LookupError) as error:
        # Values that no config on a command line can have.
        raise UserError(f"run.json: its config is none of this program ({_one_line(error)})") from None


def root_configs(schema: Schema = JOB) -> list[str]:
    """Names of the root configs that ship."""
    shipped = sorted(path.stem for path in shipped_configs().glob("*.yaml"))
    return [name for name in shipped if name not in schema.others and (schema.roots is None or name in schema.roots)]


def is_sweep(root: str, words: Sequence[str]) -> bool:
    """Whether a root config has a `sweep` section of its own, or words set one."""
    if root in _SWEEPS or any(word.lstrip("+~").startswith("sweep.") for word in words):
        return True
    directory, name = _locate(root, SWEEP)
    try:
        written = load_yaml(read_yaml_text(directory / f"{name}.yaml"))
    except (OSError, UnsafeYaml):
        # Whoever composes it says what is wrong.
        return False
    return isinstance(written, dict) and "sweep" in written


def node_types() -> list[NodeConfig]:
    """The kinds of nodes in `conf/node` that times can be reckoned with."""
    schema = OmegaConf.structured(NodeConfig)
    paths = sorted((shipped_configs() / "node").glob("*.yaml"))
    found = [OmegaConf.to_object(OmegaConf.merge(schema, OmegaConf.load(path))) for path in paths]
    return [node for node in found if isinstance(node, NodeConfig) and node.known]


def groups_of(root: str, schema: Schema = JOB) -> dict[str, list[str]]:
    """The config groups that a root config may choose from, such as `model`, with the choices in each."""
    return _groups(_locate(root, schema)[0], schema)


def refuse_unknown(key: str, groups: Mapping[str, Sequence[str]], schema: Schema = JOB) -> None:
    """Raises `UserError` with the nearest key where there is no such, nor such a section or group."""
    keys = schema_keys(schema)
    if not (key in keys or key in _sections(schema) or key in groups or key.startswith("hydra.")):
        raise UserError(_unknown_key(key, [*keys, *groups]))


def parsed_word(word: str) -> Override:
    """`key=value` as Hydra reads it; `UserError` where it cannot."""
    try:
        return OverridesParser.create().parse_override(word)
    except HydraException as error:
        raise UserError(f"{word!r} cannot be read ({_first_line(error)}): put the value in quotes") from None
    except RecursionError:
        raise UserError(f"{word[:80]}... is nested too deep: write fewer brackets") from None


@cache
def schema_keys(schema: Schema = JOB) -> tuple[str, ...]:
    """Every key that a config may set, dotted."""
    return tuple(_leaves(OmegaConf.to_container(OmegaConf.structured(schema.kind))))


def _locate(root: str, schema: Schema) -> tuple[Path, str]:
    if root.endswith((".yaml", ".yml")):
        try:
            path = Path(root).expanduser()
            there, regular = path.exists(), path.is_file()
        except (OSError, RuntimeError, ValueError) as error:
            raise UserError(f"conf={root}: {_one_line(error)}") from None
        if not regular:
            raise UserError(f"conf={root}: {'this is no file' if there else 'there is no such file'}")
        if path.suffix != ".yaml":
            raise UserError(f"conf={root}: give the file a name that ends in .yaml")
        return path.parent.absolute(), path.stem
    known = root_configs(schema)
    if schema.kind is Config and root in _SWEEPS:
        raise UserError(f"conf={root} is a sweep: make sweep conf={root}")
    if root not in known:
        near = difflib.get_close_matches(root, known, n=1)
        hint = f"did you mean {near[0]}? " if near else ""
        are = "there are" if len(known) > 1 else "there is"
        raise UserError(f"there is no config {root!r}: {hint}{are} {', '.join(known)}, or a path to a .yaml file")
    return shipped_configs(), root


def _checked(word: str, groups: Mapping[str, Sequence[str]], schema: Schema) -> str:
    """The override, when its key is one of ours, a config group's or Hydra's, and Hydra can read its value."""
    written, equals, value = word.partition("=")
    key = written.lstrip("+~").partition("@")[0]
    if not equals and not word.startswith("~"):
        raise UserError(f"{word!r} is not key=value")
    if schema.kind is Config and (key == "sweep" or key.startswith("sweep.")):
        raise UserError(f"{key} is of sweeps alone: make sweep {word}")
    axis = schema.kind is SweepJob and key.startswith(_AXES)
    if not axis:
        refuse_unknown(key, groups, schema)
    if written in PATH_KEYS and not is_hydras(value):
        return word
    if number := _ENDLESS.search(value):
        raise UserError(f"{written}: a number of {len(number[0]):,} digits is too long")
    parsed = parsed_word(word)
    if parsed.is_sweep_override():
        hint = "; make sweep renders each" if schema.kind is Config else ""
        raise UserError(f"{word!r} has several values where one is needed: a list is {written}=[A,B]{hint}")
    chosen = parsed.value()
    # Of a group in a package of its own (objective@x), Hydra itself says what there is.
    if equals and key in groups and (chosen not in groups[key] if written == key else not isinstance(chosen, str)):
        inside = ", ".join(name for name in schema_keys(schema) if name.startswith(f"{key}."))
        hint = "" if isinstance(chosen, str) else f"; or do you mean {inside}?"
        raise UserError(f"there is no {key} {value!r}: choose {' or '.join(groups[key])}{hint}")
    return word


def _groups(directory: Path, schema: Schema) -> dict[str, list[str]]:
    """The config groups, such as `model`, and the choices in each: ours, and those beside the root config."""
    found: dict[str, set[str]] = {}
    for place in (directory, shipped_configs()):
        for path in place.glob("*/*.yaml"):
            if schema.groups is None or path.parent.name in schema.groups:
                found.setdefault(path.parent.name, set()).add(path.stem)
    return {group: sorted(choices) for group, choices in found.items()}


def _refuse_unknown(composed: DictConfig, root: str, schema: Schema) -> None:
    known = schema_keys(schema)
    for key in _leaves(OmegaConf.to_container(composed)):
        if key not in known and not any(key.startswith(f"{whole}.") for whole in known):
            if schema.kind is Config and key.startswith("sweep."):
                raise UserError(f"config {root!r} is a sweep: make sweep conf={root}")
            raise UserError(f"{_unknown_key(key, known)} (in config {root!r})")


def _unknown_key(key: str, known: Sequence[str]) -> str:
    # A bare last word, such as steps, is a likely slip for octaves.steps.
    words = {name.rpartition(".")[2]: name for name in reversed(known)}
    near = difflib.get_close_matches(key, known, n=1, cutoff=0.75)
    near = near or [words[word] for word in difflib.get_close_matches(key.rpartition(".")[2], words, n=1, cutoff=0.75)]
    near = [words[key]] if key in words else near or difflib.get_close_matches(key, known, n=1, cutoff=0.5)
    return f"unknown config key {key!r}" + (f": did you mean {near[0]!r}?" if near else "")


def _sections(schema: Schema) -> list[str]:
    """The keys that hold others: `octaves={count: 3}` is good Hydra."""
    return sorted({key[:at] for key in schema_keys(schema) for at, letter in enumerate(key) if letter == "."})


def _leaves(container: Any, prefix: str = "") -> list[str]:
    if not isinstance(container, dict):
        return [prefix[:-1]]
    if not container:
        return [prefix[:-1]] if prefix else []
    return [leaf for key, value in container.items() for leaf in _leaves(value, f"{prefix}{key}.")]


def is_hydras(value: str) -> bool:
    """Whether a file name is left to Hydra's grammar: null, or in quotes. All others mean what they say."""
    return value == "null" or (len(value) > 1 and value[0] in "'\"" and value[-1] == value[0])


def literals(value: Any) -> Any:
    """Return settings with all text such that OmegaConf takes none of it for an interpolation."""
    if isinstance(value, dict):
        return {key: literals(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [literals(inner) for inner in value]
    return literal(value) if isinstance(value, str) else value


def literal(value: str) -> str:
    """Text that OmegaConf takes for no interpolation."""
    return re.sub(r"(\\*)\$\{", lambda match: match[1] * 2 + r"\${", value)


def quoted(value: str) -> str:
    """Text as Hydra's grammar quotes it: what stands before a quotation mark needs its backslashes doubled."""
    escaped = re.sub(r"(\\*)'", lambda match: match[1] * 2 + r"\'", value)
    return "'" + re.sub(r"(\\+)$", lambda match: match[1] * 2, escaped) + "'"


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0].strip()


def _one_line(error: Exception) -> str:
    """The message, with its lines joined and without the list of places that Hydra looked in."""
    # Hydra's own says nothing where OmegaConf's says why.
    message = (str(error) or str(error.__cause__ or "")).partition("Config search path:")[0]
    lines = [line.strip() for line in message.splitlines() if line.strip()]
    return " ".join(lines) if lines else type(error).__name__
