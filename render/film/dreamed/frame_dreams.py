"""Dreams of a film's later frames: the schedule that each keyframe's objective or look has at the film's octaves."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from dataclasses import fields, replace
from typing import Any, TypeVar

from render.config.compose import load_config
from render.config.film_schema import FilmConfig
from render.config.octave_settings import AUTO, check_octaves, is_by_octave, listed_octaves
from render.config.schema import ConditioningConfig, Config, ObjectiveConfig, OctavesConfig
from render.errors import UserError
from render.film.dreamed.keyframes import Keyframe
from render.job.materials import Library
from render.job.resolve import ResolvedJob, schedule_of, with_octave_count
from render.planning.schedule import Schedule
from render.system.paths import shipped_configs

Section = TypeVar("Section", ConditioningConfig, ObjectiveConfig)


def first_config(config: Config, film: FilmConfig, resolved: ResolvedJob) -> Config:
    """Return the job that later frames dream, if no keyframe says otherwise, with the film's octaves.

    Of settings that list the octaves of the first frame, later frames take those of the finest.

    Raises:
        UserError: A setting has no meaning.
    """
    octaves = film.octaves
    if octaves.count == AUTO and listed_octaves(replace(config, octaves=octaves)) is None:
        probe = _with_octaves(config, replace(octaves, count=1))
        schedule = schedule_of(
            probe, resolved.network.architecture, resolved.network.model.default_terms, _library(resolved)
        )
        counted, _ = with_octave_count(
            replace(probe, octaves=octaves), schedule, resolved.plan_request.shape, resolved.network.architecture
        )
        octaves = replace(octaves, count=counted.octaves.count)
    elif octaves.count == AUTO:
        octaves = replace(octaves, count=listed_octaves(replace(config, octaves=octaves)) or 1)
    return _checked(_with_octaves(config, octaves), "film.octaves")


def dream_schedules(config: Config, dreams: Sequence[Keyframe], resolved: ResolvedJob) -> list[Schedule]:
    """Return the schedule of each dream.

    Args:
        config: Result of `first_config`.
        dreams: The keyframes that say what to dream; one that names neither objective nor look dreams what the job does.
        resolved: The film's job.

    Raises:
        UserError: An objective or look has no meaning on the film's network.
    """
    library = _library(resolved)
    network = resolved.network
    schedules = []
    for dream in dreams:
        dreamed = _dreamed_config(config, dream)
        try:
            schedules.append(schedule_of(dreamed, network.architecture, network.model.default_terms, library))
        except UserError as error:
            raise UserError(f"film.keyframes at {dream.at:g} s: {error}" if dream.names_dream else str(error)) from None
    return schedules


def finest_step_size(config: Config) -> float:
    """Return the step size at the finest octave, levels."""
    return float(_last(config.step_size))


def finest_steps(config: Config) -> int:
    """Return the steps at the finest octave."""
    return int(_last(config.octaves.steps))


def _dreamed_config(config: Config, dream: Keyframe) -> Config:
    """Return the config of a dream."""
    if dream.objective is not None:
        objective = replace(config.objective, terms=list(dream.objective), by_model={})
        return _checked(replace(config, objective=objective), f"film.keyframes at {dream.at:g} s")
    if dream.look is None:
        return config
    look = _look(dream.look)
    if look.model.name != config.model.name:
        raise UserError(
            f"look {dream.look!r} dreams with {look.model.name}, and a film has one network, {config.model.name}: choose "
            f"another look, or model={look.model.name} for the whole film"
        )
    objective = replace(config.objective, terms=look.objective.terms, by_model=look.objective.by_model)
    count = int(config.octaves.count)
    conditioning = _finest_of(look.conditioning, count)
    return _checked(
        replace(config, objective=_finest_of(objective, count), conditioning=conditioning), f"look {dream.look!r}"
    )


def _look(name: str) -> Config:
    """Return the config of a look of `conf/look`; raise `UserError` if there is none."""
    names = sorted(path.stem for path in (shipped_configs() / "look").glob("*.yaml"))
    if name not in names:
        close = difflib.get_close_matches(name, names, n=1)
        raise UserError(
            f"film.keyframes: there is no look {name!r}: {f'did you mean {close[0]}?' if close else ', '.join(names)}"
        )
    return load_config("preview", [f"look={name}"])


def _library(resolved: ResolvedJob) -> Library:
    return Library(resolved.network.classifier, resolved.config.source)


def _checked(config: Config, place: str) -> Config:
    """Return the same config; raise `UserError`, which names the place, if its octaves have no meaning."""
    try:
        return check_octaves(config)
    except UserError as error:
        raise UserError(f"{place}: {error}") from None


def _with_octaves(config: Config, octaves: OctavesConfig) -> Config:
    """Return a config with other octaves; lists for more octaves than these are cut to the finest."""
    count = int(octaves.count)
    return replace(
        config,
        octaves=replace(octaves, steps=_finest(octaves.steps, count)),
        step_size=_finest(config.step_size, count),
        jitter=_finest(config.jitter, count),
        conditioning=_finest_of(config.conditioning, count),
        objective=_finest_of(config.objective, count),
    )


def _finest_of(section: Section, count: int) -> Section:
    """Return a section with every list of octaves cut to the finest `count`."""
    values = {field.name: getattr(section, field.name) for field in fields(section)}
    if isinstance(section, ConditioningConfig):
        return type(section)(**{name: _finest(value, count) for name, value in values.items()})
    values["terms"] = _finest_terms(section.terms, count)
    values["by_model"] = {model: _finest_terms(terms, count) for model, terms in section.by_model.items()}
    regions = section.regions if isinstance(section.regions, list) else []
    values["regions"] = [
        {**region, "terms": _finest_terms(region["terms"], count)}
        if isinstance(region, dict) and "terms" in region
        else region
        for region in regions
    ]
    return type(section)(**values)


def _finest_terms(terms: Any, count: int) -> Any:
    return list(terms)[-count:] if is_by_octave(terms) and len(terms) > count else terms


def _finest(value: Any, count: int) -> Any:
    return list(value)[-count:] if isinstance(value, list | tuple) and len(value) > count else value


def _last(value: Any) -> Any:
    return value[-1] if isinstance(value, list | tuple) else value
