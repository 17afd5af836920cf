"""Settings of a touch: those that the run recorded, changed by the user's words.

The record may come from somebody else: none of its values is interpolated, and no file that only it names is read unless
its content is what the run used.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any

from render.config.compose import load_config, recorded_config
from render.config.objective_files import named_files
from render.config.octave_settings import AUTO
from render.config.options import AUTO_LOOK
from render.config.root_kinds import check_job
from render.config.schema import Config, FarmConfig, NodeConfig, OutputConfig
from render.errors import UserError
from render.job.looks import best_look
from render.storage.user_paths import user_path
from render.system.paths import file_sha256

#: Sections and keys of a config that decide what a touch dreams, in its record.
DREAM_KEYS = (
    "seed", "model", "objective", "octaves", "step_size", "jitter", "conditioning", "optimizer", "tiles", "boundary",
    "source",
)  # fmt: skip
#: Beginnings of the keys that words may set.
ALLOWED = (
    "model.", "objective.", "octaves.", "step_size", "jitter", "conditioning.", "optimizer.", "seed", "tiles.", "farm.",
    "checkpoint.", "overwrite", "quiet", "log",
)  # fmt: skip
#: Groups of `conf/` that words may choose from, with the sections that each sets.
GROUPS = {
    "look": ("look", "model", "objective", "octaves", "step_size", "jitter", "conditioning", "optimizer"),
    "model": ("model", "objective"),
    "objective": ("objective",),
}
#: Largest file of weights that is read if only the record names it, bytes.
_MAX_WEIGHTS_BYTES = 2 << 30


def touch_config(record: Mapping[str, Any], words: Sequence[str]) -> Config:
    """Return the config of a touch: the run's, with the words.

    Octaves and tiles follow from the area unless the words set them. The run's own masks and regions do not count.

    Args:
        record: The run's record, checked.
        words: `key=value` words, of the keys in `ALLOWED` and of the groups `look`, `model` and `objective`.

    Raises:
        UserError: A word is wrong, or the run was dreamed with files that are not read unasked.
    """
    words = [f"look={best_look(words)[0]}" if word == AUTO_LOOK else word for word in words]
    groups = [word for word in words if word.partition("=")[0] in GROUPS]
    plain = [word for word in words if word not in groups]
    keys = {word.partition("=")[0].lstrip("+") for word in plain}
    _refuse_keys(keys)
    config = recorded_config(_settings(record["config"]), plain, ALLOWED)
    sections = {section for word in groups for section in GROUPS[word.partition("=")[0]]}
    if sections:
        chosen = load_config("preview", list(words))
        config = replace(config, **{section: getattr(chosen, section) for section in sections})
    if "objective" not in sections and not any(key.startswith("objective.") for key in keys):
        _refuse_recorded_objective(config)
    if "model" not in sections:
        _refuse_recorded_weights(config, record, keys)
    if "octaves" not in sections and "octaves.count" not in keys:
        config = replace(config, octaves=replace(config.octaves, count=AUTO))
    if not any(key.startswith("tiles.size") for key in keys):
        config = replace(config, tiles=replace(config.tiles, size="auto"))
    return _without_masks(config)


def replayed_config(record: Mapping[str, Any], touch: Mapping[str, Any], words: Sequence[str]) -> Config:
    """Return the config of a touch that a record tells.

    Args:
        record: Record of the run that is touched again, checked.
        touch: The recorded touch.
        words: Words that change how, not what: of `farm`, `checkpoint` and the like.

    Raises:
        UserError: It is none of this version, or names files that are not read unasked.
    """
    settings = _settings(record["config"]) | {key: touch["config"][key] for key in DREAM_KEYS if key in touch["config"]}
    config = recorded_config(settings, words, ("farm.", "checkpoint.", "overwrite", "quiet", "log"))
    _refuse_recorded_objective(config)
    _refuse_recorded_weights(config, {**record, "identity": touch.get("identity", {})}, set())
    return _without_masks(config)


def dream_settings(config: Config) -> dict[str, Any]:
    """Return the settings of a touch for its record, and to compare it with others."""
    settings = asdict(config)
    return {key: settings[key] for key in DREAM_KEYS}


def _settings(recorded: Mapping[str, Any]) -> dict[str, Any]:
    """Return a run's recorded config without its places, and without what says how it was run."""
    settings = dict(recorded) | {"fresh": False, "overwrite": False, "quiet": False, "log": "text"}
    settings |= {"farm": asdict(FarmConfig()), "node": asdict(NodeConfig())}
    return settings | {"output": asdict(OutputConfig())}


def _refuse_keys(keys: set[str]) -> None:
    """Raise `UserError` for keys that have another meaning here, or none."""
    for key in sorted(keys):
        if key in ("objective.mask", "objective.regions"):
            raise UserError(f"{key}: a touch has one area: name it with box= or mask=")


def _without_masks(config: Config) -> Config:
    """Return the config without the run's own masks and regions; raise `UserError` if it has only regions."""
    objective = config.objective
    if objective.regions and objective.terms is None and not objective.by_model:
        raise UserError("this run was dreamed by regions alone: say what to dream here, such as objective.terms=[mixed4]")
    return check_job(replace(config, objective=replace(objective, mask=None, regions=[])))


def _refuse_recorded_objective(config: Config) -> None:
    """Raise `UserError` for pictures that an objective looks at, and that only a record names."""
    objective = {"terms": config.objective.terms, "by_model": config.objective.by_model}
    for key, name in named_files(objective):
        raise UserError(
            f"{key}={name} of the record is not read unasked: say what to dream here, such as objective.terms=[mixed4]"
        )


def _refuse_recorded_weights(config: Config, record: Mapping[str, Any], keys: set[str]) -> None:
    """Raise `UserError` for files of a network that only a record names, unless the run used these very files."""
    weights, labels = config.model.weights, config.model.labels
    if weights is not None and "model.weights" not in keys:
        expected = record.get("identity", {}).get("weights content")
        path = user_path(weights, "model.weights")
        is_known = expected is not None and path.is_file() and path.stat().st_size <= _MAX_WEIGHTS_BYTES
        if not is_known or file_sha256(path) != expected:
            raise UserError(f"this run used model.weights={weights}, which is not read unasked: say model.weights=FILE")
    if labels is not None and "model.labels" not in keys:
        raise UserError(f"this run used model.labels={labels}, which is not read unasked: say model.labels=FILE")
