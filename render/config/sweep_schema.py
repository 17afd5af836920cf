"""Schema of the `sweep` section: axes, directory and failure handling of a sweep."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import Any

from render.config.schema import Config
from render.config.validation import require


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
    """Config of a job with a `sweep` section."""

    sweep: SweepConfig = field(default_factory=SweepConfig)

    def job(self) -> Config:
        """Return the config without the `sweep` section."""
        return Config(**{config_field.name: getattr(self, config_field.name) for config_field in fields(Config)})


def validate_sweep(sweep: SweepConfig) -> SweepConfig:
    """Return the same section. Raise `UserError` for the first invalid value."""
    require(sweep.max >= 1, "sweep.max", sweep.max, "must be at least 1")
    require(sweep.retries >= 0, "sweep.retries", sweep.retries, "must be 0 or more")
    require(32 <= sweep.thumbnail <= 1024, "sweep.thumbnail", sweep.thumbnail, "must be from 32 to 1024 px")
    return sweep
