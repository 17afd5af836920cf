"""The axes of a sweep: keys that have several values. Hydra's multirun grammar, file names and lists become axes here."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from omegaconf import OmegaConf

from render.compose import SWEEP, compose_root, groups_of, refuse_unknown, to_config
from render.errors import UserError
from render.sweep.config import SweepJob
from render.sweep.values import Written, labels, values_of_config, values_of_word

#: What a picture is not made of, and where it goes: sections and keys that cannot be axes.
_NO_AXES = ("conf", "farm", "checkpoint", "quiet", "fresh", "overwrite", "sweep", "hydra", "output.also")
_PLACES = ("output.dir", "output.path")
#: Free text may have no letter in it, too.
_TEXTS = ("output.title", "output.author")


@dataclass(frozen=True)
class Value:
    """One value of an axis: `label` is what people read, `words` are the `key=value` that set it, in Hydra's grammar."""

    label: str
    words: tuple[str, ...]


@dataclass(frozen=True)
class Axis:
    """A key that has several values: a dotted key, a config group, or `point` for a list of points."""

    key: str
    values: tuple[Value, ...]

    @property
    def name(self) -> str:
        """What the axis is called where there is little room: `terms` of `objective.terms`."""
        return self.key.rpartition(".")[2]


@dataclass(frozen=True)
class Found:
    """A sweep's words, read: the root config, the words that hold for all points, and the axes, outermost first.

    `job` is what the root config and the fixed words make; of its keys that are axes, it has what the root config says.
    """

    root: str
    job: SweepJob
    axes: tuple[Axis, ...]
    fixed: tuple[str, ...]


def key_of(word: str) -> str:
    """The key of `key=value`, without Hydra's signs and package."""
    return word.partition("=")[0].lstrip("+~").partition("@")[0]


def find_axes(root: str, words: Sequence[str]) -> Found:
    """The axes that a root config and the words on a command line make.

    Raises `UserError` for unknown keys, for axes that are empty, mean nothing or decide no picture, and for no axis at all.
    """
    groups = groups_of(root, SWEEP)
    asked: dict[str, Axis | None] = {}
    fixed: list[str] = []
    for word in words:
        key = key_of(word)
        axis = _axis_of_word(word, key, groups)
        asked.pop(key, None)
        asked[key] = axis
        if axis is None:
            fixed.append(word)
        else:
            fixed = [other for other in fixed if key_of(other) != key]
    job = _job(root, fixed)
    axes = {axis.key: axis for axis in _axes_of_config(job, asked, groups)}
    axes |= {key: axis for key, axis in asked.items() if axis is not None}
    if not axes:
        raise UserError(
            "there is nothing to sweep: give a key several values, such as step_size=1,2,4 or image=photos/*.jpg"
        )
    return Found(root, job, tuple(axes.values()), tuple(fixed))


def make_axis(key: str, values: Iterable[Written], where: str) -> Axis:
    """An axis of one key; `UserError` naming `where` it is written for one that is empty or says a value twice."""
    found = list(values)
    if not found:
        raise UserError(f"{where} has no values: give it at least one")
    seen: set[str] = set()
    for one in found:
        if one.text in seen:
            raise UserError(f"{where} has {one.text} twice: drop one")
        seen.add(one.text)
    named = zip(labels(found), found, strict=True)
    return Axis(key, tuple(Value(label, (f"{key}={one.text}",)) for label, one in named))


def _job(root: str, fixed: Sequence[str]) -> SweepJob:
    composed = compose_root(SWEEP, root, fixed)
    # A root config may leave to the axes what has no usual value; points are refused where they lack it.
    for key in OmegaConf.missing_keys(composed):
        if not key.startswith("sweep."):
            usual = OmegaConf.select(OmegaConf.structured(SWEEP.kind), key, default=None)
            OmegaConf.update(composed, key, usual, force_add=True)
    return to_config(composed, root, SWEEP)


def _axis_of_word(word: str, key: str, groups: Mapping[str, Sequence[str]]) -> Axis | None:
    """The axis that a word makes; None for one that gives one value."""
    _, equals, text = word.partition("=")
    if not equals or key.startswith("sweep.axes."):
        return None
    refuse_unknown(key, groups, SWEEP)
    if not text.strip() and key not in _TEXTS:
        raise UserError(f"{word} has no value: give it one, or several with commas between them")
    several = values_of_word(key, text, groups)
    if several is None:
        return None
    _refuse_axis(key, groups, word)
    return make_axis(key, several, word)


def _axes_of_config(job: SweepJob, asked: Mapping[str, Axis | None], groups: Mapping[str, Sequence[str]]) -> list[Axis]:
    found = []
    for key, given in _flat(job.sweep.axes):
        if key in asked or given is None:
            continue
        _refuse_axis(key, groups, f"sweep.axes.{key}")
        found.append(make_axis(key, values_of_config(key, given, groups), f"sweep.axes.{key}"))
    return found


def _refuse_axis(key: str, groups: Mapping[str, Sequence[str]], where: str) -> None:
    if key.partition(".")[0] in _NO_AXES or key in _NO_AXES:
        raise UserError(f"{where}: {key} cannot be an axis, for no picture depends on it; give it one value")
    if key in _PLACES:
        raise UserError(f"{where}: {key} cannot be an axis: every point has a directory of its own, in sweep.dir")
    refuse_unknown(key, groups, SWEEP)


def _flat(axes: Mapping[str, Any], prefix: str = "") -> Iterable[tuple[str, Any]]:
    """Dotted keys and what they are given; a key that is set more than once has what was set last."""
    found: dict[str, Any] = {}
    for key, value in axes.items():
        found |= dict(_flat(value, f"{prefix}{key}.")) if isinstance(value, dict) else {f"{prefix}{key}": value}
    return found.items()
