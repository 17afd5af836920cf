"""What a sweep adds to a job's config: its axes, where it lies, and how failures are taken."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import Any

from render.config.schema import Config, require


@dataclass
class SweepConfig:
    """The `sweep` section of a root config.

    `axes` gives keys several values: a list, or text in Hydra's multirun grammar (`1,2,4`, `range(0,8)`). `layers` is an
    axis of layers (`all` stands for every block of the network, or a list of them), `channels` one of a layer's channels
    (`mixed4`, `mixed4:0-63`), `points` a file that lists points, such as the favourites that a gallery exports. `first`
    lists `key=value` of the points that are to be rendered before others; `rows` and `columns` are the keys of the axes
    that the contact sheet and the page lay out so.
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


@dataclass
class SweepJob(Config):
    """A job's config with a `sweep` section: what a sweep is made of."""

    sweep: SweepConfig = field(default_factory=SweepConfig)

    def job(self) -> Config:
        """The config without the section."""
        return Config(**{one.name: getattr(self, one.name) for one in fields(Config)})


def validate_sweep(sweep: SweepConfig) -> SweepConfig:
    """The same section; `UserError` for the first value that cannot mean anything."""
    require(sweep.max >= 1, "sweep.max", sweep.max, "must be at least 1")
    require(sweep.retries >= 0, "sweep.retries", sweep.retries, "must be 0 or more")
    require(32 <= sweep.thumbnail <= 1024, "sweep.thumbnail", sweep.thumbnail, "must be from 32 to 1024 px")
    return sweep
