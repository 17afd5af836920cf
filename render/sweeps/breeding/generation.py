"""The next generation: a sweep whose axis of points is bred from favourites."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from render.config.compose import PATH_KEYS, groups_of, refuse_unknown
from render.config.hydra_text import parsed_word
from render.config.schema import Config, dotted
from render.config.sweep_kinds import FILM_SWEEP
from render.errors import UserError
from render.job.progress import say
from render.storage.user_paths import user_path
from render.sweeps.axes.definition import Lineage, SweepDefinition
from render.sweeps.axes.parsing import parse_sweep
from render.sweeps.axes.points_file import PointValues
from render.sweeps.axes.refusals import refuse_axis, refuse_film_key
from render.sweeps.axes.section_axes import points_axis
from render.sweeps.axes.values import unquoted
from render.sweeps.breeding.favourites import Favourites, read_favourites, version_note
from render.sweeps.breeding.genes import Gene, GeneSource
from render.sweeps.breeding.lineage_record import RecordedLineage, read_lineage, recorded_values
from render.sweeps.breeding.offspring import MAX_TRIES, Child, Nursery, Offspring, Parent, words_of
from render.sweeps.breeding.ranges import ValueCheck
from render.sweeps.rendering.drafting import MAX_SILENT_POINTS
from render.sweeps.rendering.point_progress import PointProgress

#: Largest number of sweeps of one generation, bred by one command from one file that changes.
_MAX_SWEEPS = 1000


@dataclass(frozen=True)
class _Start:
    """Directory of a bred sweep, with the lineage that an earlier command recorded in it; None if there is none."""

    directory: Path
    recorded: RecordedLineage | None = None
    is_changed: bool = False


def define_sweep(root: str, words: Sequence[str]) -> SweepDefinition:
    """Return the sweep that a root config and words define; a sweep with favourites gets its points from them.

    Raises:
        UserError: As `parse_sweep` does, and for favourites that nothing can be bred from.
    """
    definition = parse_sweep(root, words)
    return definition if definition.config.sweep.breed.favourites is None else _bred(definition, words)


def _bred(definition: SweepDefinition, words: Sequence[str]) -> SweepDefinition:
    """Return a sweep with its points bred, or read from its record if an earlier command has bred them."""
    section = definition.config.sweep.breed
    groups = groups_of(definition.root, definition.schema)
    for key in section.vary:
        refuse_axis(key, groups, "sweep.breed.vary", FILM_SWEEP)
    for key in dotted(section.ranges):
        refuse_unknown(key, groups, FILM_SWEEP)
    favourites = read_favourites(str(section.favourites), groups)
    generation = favourites.generation + 1
    settings = _settings_digest(definition, favourites)
    start = _start(definition, favourites, generation, settings)
    if start.recorded is not None:
        favourites = _recorded_favourites(start.recorded, favourites, groups, start.directory)
    favourites = favourites.without(definition, groups)
    _refuse_many(definition, len(favourites.points))
    if section.size > MAX_SILENT_POINTS:
        say(f"drawing {section.size:,} points", quiet=definition.config.quiet)
    shared = words_of(favourites.shared)
    base = replace(parse_sweep(definition.root, [*shared, *words]), lineage=None)
    for key in dict.fromkeys(key for point in favourites.points for key in point):
        refuse_film_key(key, favourites.where, base.schema)
    breeder = _Breeder(base, favourites, groups, generation)
    points = breeder.points(start.recorded, groups)
    notes = [version_note(favourites), breeder.note, _changed_note(start, favourites)]
    lineage = Lineage(
        generation,
        str(section.favourites),
        favourites.digest,
        settings,
        tuple(words_of(point) for point in favourites.points),
        shared,
        favourites.ranges,
        tuple(point.parents for point in points),
        tuple(filter(None, notes)),
    )
    base.config.sweep.dir = str(start.directory)
    axis = points_axis([point.values for point in points], favourites.where)
    return replace(base, axes=(axis, *base.axes), lineage=lineage)


def _refuse_many(definition: SweepDefinition, favourites: int) -> None:
    """Raise `UserError` for more points than `sweep.max`, before they are drawn."""
    section = definition.config.sweep
    points = section.breed.size + (favourites if section.breed.keep else 0)
    total = points * math.prod(len(axis.values) for axis in definition.axes)
    if total > section.max:
        raise UserError(f"{total:,} points are more than sweep.max={section.max:,}: raise it, or lower sweep.breed.size")


class _Breeder:
    """Breeder of the points of one generation.

    Attributes:
        note: A line for the user if there are fewer children than asked for; else empty.
    """

    def __init__(
        self, definition: SweepDefinition, favourites: Favourites, groups: Mapping[str, Sequence[str]], generation: int
    ) -> None:
        self._section = definition.config.sweep.breed
        self._quiet = definition.config.quiet
        self._favourites = favourites
        self._nursery = Nursery(definition)
        self.note = ""
        configs = [self._admitted(point, number) for number, point in enumerate(favourites.points, start=1)]
        parents = [
            Parent(_typed(point) | self._varied(point, config), config.model.name)
            for point, config in zip(favourites.points, configs, strict=True)
        ]
        self._nursery.networks = frozenset(parent.network for parent in parents)
        section = self._section
        check = ValueCheck(configs[0])
        limits = {key: value for key, value in dotted(section.ranges).items() if value is not None}
        keys = dict.fromkeys(key for parent in parents for key in parent.values)
        choices = {key: self._nursery.choices_at_hand(key, groups[key]) for key in keys if key in groups}
        source = GeneSource(choices, section.spread, favourites.ranges, limits, check)
        genes: dict[str, Gene] = {
            key: source.gene(key, [parent.values[key] for parent in parents if key in parent.values]) for key in keys
        }
        self._offspring = Offspring(parents, genes, section.mutation, section.crossover, (section.seed, generation))

    def points(self, recorded: RecordedLineage | None, groups: Mapping[str, Sequence[str]]) -> list[Child]:
        """Return the points of the generation: favourites if they are kept, recorded children, and new ones.

        Raises:
            UserError: There is no child.
        """
        section = self._section
        favourites = self._favourites.points
        points = [Child(point, (number,)) for number, point in enumerate(favourites)] if section.keep else []
        # Points of an earlier command stay, even if one of them cannot be rendered any more.
        children = [
            child
            for child in _recorded_children(recorded, groups, len(favourites))
            if any(self._nursery.admit(child.values))
        ][: section.size]
        progress = PointProgress("drawing", section.size - len(children), quiet=self._quiet)
        for child in self._offspring.children(len(children), section.size - len(children), self._nursery):
            children.append(child)
            progress.advance()
        if not children:
            reason = self._offspring.last_refusal
            raise UserError(
                f"{self._favourites.where}: no new point in {MAX_TRIES} draws"
                + (f"; the last one was refused: {reason}" if reason else "")
                + ": raise sweep.breed.mutation, or name keys to change in sweep.breed.vary"
            )
        if len(children) < section.size:
            self.note = (
                f"only {len(children)} of {section.size} new points differ and can be rendered: name more keys in "
                "sweep.breed.vary"
            )
        return points + children

    def _admitted(self, point: PointValues, number: int) -> Config:
        """Return the config of a favourite. Raise `UserError` if it cannot be rendered."""
        config, reason = self._nursery.admit(point)
        if config is None:
            raise UserError(f"{self._favourites.where}, point {number}: {reason or 'it is the same job as another'}")
        return config

    def _varied(self, point: PointValues, config: Config) -> dict[str, Any]:
        """Return the values of the keys to vary that a favourite does not have."""
        return {key: _value_in(config, key) for key in self._section.vary if key not in point}


def _typed(point: PointValues) -> dict[str, Any]:
    """Return the values of a point with their types."""
    return {
        key: value.text if key in PATH_KEYS else unquoted(parsed_word(f"{key}={value.text}").value())
        for key, value in point.items()
    }


def _value_in(config: Config, key: str) -> Any:
    """Return the value of a dotted key. Raise `UserError` for a section or a group."""
    value: Any = config
    for part in key.split("."):
        value = getattr(value, part, config)
    if hasattr(value, "__dataclass_fields__"):
        raise UserError(f"sweep.breed.vary has {key}, which is no single setting: name keys such as step_size")
    return value


def _recorded_children(recorded: RecordedLineage | None, groups: Mapping[str, Sequence[str]], parents: int) -> list[Child]:
    """Return the children in a record; words that a file of points could not have raise `UserError`."""
    children = []
    for number, point in enumerate(recorded["points"] if recorded is not None else (), start=1):
        values = recorded_values(point["words"], f"sweep.json, breed, point {number}", groups)
        children.append(Child(values, tuple(parent for parent in point["parents"] if parent < parents)))
    return children


def _recorded_favourites(
    recorded: RecordedLineage, favourites: Favourites, groups: Mapping[str, Sequence[str]], directory: Path
) -> Favourites:
    """Return the favourites that the points of a record were bred from."""
    where = f"{directory}/sweep.json"
    points = [
        recorded_values(words, f"{where}, parent {number}", groups)
        for number, words in enumerate(recorded["parents"], start=1)
    ]
    if not points:
        raise UserError(f"{where} names no favourites: move it away, and the command breeds anew")
    shared = recorded_values(recorded["shared"], f"{where}, shared", groups)
    ranges = {key: (pair[0], pair[-1]) for key, pair in recorded["ranges"].items() if len(pair) == 2}
    return replace(favourites, points=tuple(points), shared=shared, ranges=ranges, digest=recorded["digest"])


def _changed_note(start: _Start, favourites: Favourites) -> str:
    if not start.is_changed:
        return ""
    return (
        f"{favourites.where} has changed since {start.directory} began: going on with the points that it began with; "
        "another sweep.dir breeds from the file as it is now"
    )


def _settings_digest(definition: SweepDefinition, favourites: Favourites) -> str:
    """Return a sha256 of all that the points depend on besides the favourites and the number of children."""
    section = asdict(definition.config.sweep.breed)
    del section["size"], section["favourites"]
    content = [
        section,
        favourites.generation,
        definition.config.job().canvas_settings(),
        [[axis.key, [value.words for value in axis.values]] for axis in definition.axes],
    ]
    return hashlib.sha256(json.dumps(content, sort_keys=True, default=str).encode()).hexdigest()


def _start(definition: SweepDefinition, favourites: Favourites, generation: int, settings: str) -> _Start:
    """Return the directory of the sweep.

    It is that of the same favourites; else that of a sweep which has not ended, whose file has changed; else a new one.

    Raises:
        UserError: `sweep.dir` has another sweep.
    """
    section = definition.config.sweep
    if section.dir:
        directory = user_path(section.dir, "sweep.dir")
        record, lineage = read_lineage(directory)
        if not record:
            return _Start(directory)
        if lineage is None or lineage["settings"] != settings:
            other = "another sweep" if lineage is None else f"generation {lineage['generation']}, bred otherwise"
            raise UserError(f"sweep.dir={directory} holds {other}: choose another sweep.dir")
        if lineage["digest"] == favourites.digest:
            return _Start(directory, lineage)
        if record["status"] == "finished":
            raise UserError(f"sweep.dir={directory} holds points of other favourites: choose another sweep.dir")
        return _Start(directory, lineage, is_changed=True)
    unfinished = None
    for number in range(_MAX_SWEEPS):
        identity = json.dumps([settings, str(section.breed.favourites), number])
        name = f"{definition.config.name}-{generation}-{hashlib.sha256(identity.encode()).hexdigest()[:8]}"
        directory = Path("sweeps") / name
        record, lineage = read_lineage(directory)
        if lineage is None:
            if not record:
                return unfinished or _Start(directory)
        elif lineage["digest"] == favourites.digest:
            return _Start(directory, lineage)
        elif record["status"] != "finished" and unfinished is None:
            unfinished = _Start(directory, lineage, is_changed=True)
    raise UserError(f"sweeps holds {_MAX_SWEEPS} sweeps of generation {generation}: name a new one with sweep.dir")
