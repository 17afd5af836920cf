"""Kinds of sweeps: grids of pictures, and grids of films."""

from __future__ import annotations

from collections.abc import Sequence

from render.config.compose import is_film
from render.config.film_schema import FilmJob
from render.config.film_validation import check_film
from render.config.root_kinds import ATLAS, SWEEP, Schema, check_job
from render.config.schema import Config
from render.config.sweep_schema import FilmSweepJob, SweepJob, validate_sweep


def _check_sweep(job: SweepJob) -> SweepJob:
    # As for grids of pictures: each point's film is checked later.
    validate_sweep(job.sweep)
    return job


#: A film with a `sweep` section. Any root config that may be swept or filmed may be this.
FILM_SWEEP: Schema[SweepJob] = Schema(FilmSweepJob, _check_sweep, others=ATLAS.roots or ())


def sweep_schema(root: str, words: Sequence[str]) -> Schema[SweepJob]:
    """Return the schema of the sweep of a root config and words: of films if either names settings of a film."""
    return FILM_SWEEP if is_film(root, words) else SWEEP


def check_point(config: Config) -> Config:
    """Return the same config of a picture or a film. Raise `UserError` for the first invalid value."""
    return check_film(config) if isinstance(config, FilmJob) else check_job(config)
