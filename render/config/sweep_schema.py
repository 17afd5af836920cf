"""Schema of the `sweep` section: axes, directory and failure handling of a sweep."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import Any

from render.config.film_schema import FilmConfig, FilmJob
from render.config.schema import Config, dotted
from render.config.validation import require


@dataclass
class BreedConfig:
    """The `sweep.breed` section: points bred from favourites.

    Attributes:
        favourites: File of favourites that a gallery exported, in short `from=`; None for a sweep that is not bred.
        size: Number of new points.
        mutation: Share of a point's settings that change, 0 to 1.
        spread: Size of a change, as a share of the range of the favourites.
        crossover: Share of the points that have two parents, 0 to 1.
        seed: Seed of all choices.
        keep: True if the favourites are points of the new sweep, too.
        vary: Keys to change besides those of the favourites.
        ranges: By key the least and largest number, or the choices, that a change may give.
    """

    favourites: str | None = None
    size: int = 24
    mutation: float = 0.4
    spread: float = 0.25
    crossover: float = 0.7
    seed: int = 0
    keep: bool = True
    vary: list[str] = field(default_factory=list)
    ranges: dict[str, Any] = field(default_factory=dict)


@dataclass
class SweepConfig:
    """The `sweep` section of a root config.

    Attributes:
        axes: Values by key: a list, or text in Hydra's multirun grammar (`1,2,4`, `range(0,8)`).
        layers: Axis of layers: a list, or `all` for every block of the network.
        channels: Axis of a layer's channels (`mixed4`, `mixed4:0-63`).
        points: File that lists points, such as the favourites exported by a gallery.
        first: `key=value` of the points to render before others.
        rows: Key of the axis along the rows of the contact sheet and the page.
        columns: Key of the axis along their columns.
        thumbnail: Size of a thumbnail, px.
        breed: Points bred from favourites, instead of a grid.
    """

    axes: dict[str, Any] = field(default_factory=dict)
    layers: Any = None
    channels: str | None = None
    points: str | None = None
    dir: str | None = None
    max: int = 500
    retries: int = 2
    strict: bool = False
    first: list[str] = field(default_factory=list)
    rows: str | None = None
    columns: str | None = None
    thumbnail: int = 320
    breed: BreedConfig = field(default_factory=BreedConfig)


@dataclass
class SweepJob(Config):
    """Config of a job with a `sweep` section."""

    sweep: SweepConfig = field(default_factory=SweepConfig)

    def job(self) -> Config:
        """Return the config without the `sweep` section."""
        return Config(**{config_field.name: getattr(self, config_field.name) for config_field in fields(Config)})


@dataclass
class FilmSweepJob(SweepJob):
    """Config of a film with a `sweep` section."""

    film: FilmConfig = field(default_factory=FilmConfig)

    def job(self) -> FilmJob:
        """Return the config of the film, without the `sweep` section."""
        return FilmJob(**{config_field.name: getattr(self, config_field.name) for config_field in fields(FilmJob)})


def validate_sweep(sweep: SweepConfig) -> SweepConfig:
    """Return the same section. Raise `UserError` for the first invalid value."""
    require(sweep.max >= 1, "sweep.max", sweep.max, "must be at least 1")
    require(sweep.retries >= 0, "sweep.retries", sweep.retries, "must be 0 or more")
    require(32 <= sweep.thumbnail <= 1024, "sweep.thumbnail", sweep.thumbnail, "must be from 32 to 1024 px")
    breed = sweep.breed
    require(1 <= breed.size <= 100_000, "sweep.breed.size", breed.size, "must be from 1 to 100,000")
    for key in ("mutation", "crossover"):
        share = getattr(breed, key)
        require(0 <= share <= 1, f"sweep.breed.{key}", share, "must be from 0 to 1")
    require(0 < breed.spread <= 1, "sweep.breed.spread", breed.spread, "must be above 0 and at most 1")
    require(0 <= breed.seed < 2**63, "sweep.breed.seed", breed.seed, "must be from 0 to 2^63 - 1")
    for key, limits in dotted(breed.ranges).items():
        rule = "must be two numbers, the smaller first, such as [0.5,4], or a list of choices"
        is_list = limits is None or (isinstance(limits, list) and len(limits) > 0)
        numbers = [limit for limit in limits or () if isinstance(limit, int | float)] if is_list else []
        is_ordered = len(numbers) != 2 or numbers[0] <= numbers[1]
        require(is_list and is_ordered, f"sweep.breed.ranges.{key}", limits, rule)
    return sweep
