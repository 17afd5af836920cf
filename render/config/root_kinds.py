"""Kinds of root configs: jobs, films, sweeps and the atlas, each with its dataclass, its check and its names in `conf/`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

from render.config.atlas_schema import AtlasConfig, validate_atlas
from render.config.film_schema import FilmJob
from render.config.film_validation import check_film
from render.config.octave_settings import check_octaves
from render.config.schema import Config
from render.config.sweep_schema import SweepJob, validate_sweep
from render.config.validation import validate

#: Root configs of the atlas, of sweeps and of films.
ATLAS_ROOTS = ("atlas", "classes")
SWEEP_ROOTS = ("breed", "channels", "grid", "layers")
FILM_ROOTS = ("flight", "footage", "zoom")
C = TypeVar("C", Config, AtlasConfig, SweepJob, FilmJob)


@dataclass(frozen=True)
class Schema(Generic[C]):
    """Kind of config.

    Attributes:
        kind: Dataclass of the config.
        check: Function that returns the config, or raises `UserError` for an invalid value.
        groups: Config groups in `conf/` that it may use; None for all.
        roots: Root configs in `conf/` of this kind; None for all except `others`.
        others: Root configs in `conf/` of other kinds.
    """

    kind: type[C]
    check: Callable[[C], C]
    groups: tuple[str, ...] | None = None
    roots: tuple[str, ...] | None = None
    others: tuple[str, ...] = ()


def check_job(config: Config) -> Config:
    """Return the same config. Raise `UserError` for the first invalid value."""
    return check_octaves(validate(config))


def _check_sweep(job: SweepJob) -> SweepJob:
    # Check only the sweep section: values for all points may depend on an axis, so each point's job is checked later.
    validate_sweep(job.sweep)
    return job


JOB = Schema(Config, check_job, others=(*ATLAS_ROOTS, *SWEEP_ROOTS, *FILM_ROOTS))
ATLAS = Schema(AtlasConfig, validate_atlas, groups=("model",), roots=ATLAS_ROOTS)
#: A job with a `sweep` section. A root config without this section may be swept too.
SWEEP = Schema(SweepJob, _check_sweep, others=(*ATLAS_ROOTS, *FILM_ROOTS))
#: A job with a `film` section. A root config without this section may be filmed too.
FILM = Schema(FilmJob, check_film, others=(*ATLAS_ROOTS, *SWEEP_ROOTS))
