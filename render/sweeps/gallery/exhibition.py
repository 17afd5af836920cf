"""Content of contact sheet and gallery as plain data: both can be drawn without rendering."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from render.sweeps.axes.definition import SweepAxis


@dataclass(frozen=True)
class ShownPoint:
    """Point as it is shown.

    File names are relative to the sweep's directory, with slashes; None if there is no such file.

    Attributes:
        value_indices: The index of its value on each axis.
        state: Its state.
        reason: Why it failed; else empty.
        directory: Its run directory.
        picture: The finished file.
        large: A version that a browser can show whole as a picture: the file itself if possible.
        thumbnail: A small WebP.
        zoom: A page that shows it as deep zoom.
        size: (rows, columns) of the picture, px.
        seconds: Time that it took.
        words: The `key=value` of its axes.
        command: The command that renders it again.
        poster_command: The command that renders it as a print.
        favourite_words: The `key=value` for its print in a file of favourites; if empty, `words` are used.
        parents: In a bred sweep the numbers of its parents among the exhibition's; a kept favourite has itself.
        motion: A small animated WebP of a film.
        film: The film, if browsers play its format.
    """

    value_indices: tuple[int, ...]
    state: Literal["done", "failed", "waiting"]
    reason: str
    directory: str
    picture: str | None
    large: str | None
    thumbnail: str | None
    zoom: str | None
    size: tuple[int, int]
    seconds: float
    words: tuple[str, ...]
    command: str
    poster_command: str
    favourite_words: tuple[str, ...] = ()
    parents: tuple[int, ...] = ()
    motion: str | None = None
    film: str | None = None


@dataclass(frozen=True)
class SweepProgress:
    """Progress of the command that renders a sweep, when its page was written.

    Attributes:
        state: `running`, or how the command ended.
        share: Share of the work that is over, 0..1.
        running: Number of points that are being rendered.
        seconds_left: Seconds until all points are done; None if unknown.
        time: When this was so, seconds since the epoch.
        interval: Seconds after which the page is written again while the command runs.
    """

    state: str
    share: float
    running: int
    seconds_left: float | None
    time: float
    interval: float


@dataclass(frozen=True)
class Exhibition:
    """Sweep as it is shown.

    Attributes:
        title: Its name.
        axes: Its axes.
        points: Its points, in the order of the grid.
        rows: Index of the axis whose values are rows; None if there is none.
        columns: Index of the axis whose values are columns; None if there is none.
        settings: (name, text) of the settings that all points share.
        command: The command that makes the sweep again.
        favourites_command: The command that renders a file of favourites as prints; empty for the default one.
        shared_words: The `key=value` that a file of favourites says of all points.
        ranges: (least, largest) of the numbers on each axis, by key.
        generation: Number of times that the points have been bred; 0 for a grid.
        parents: In a bred sweep the `key=value` of each parent.
        progress: Progress of the command that renders it; None if there is none.
        has_films: True if its points are films.
    """

    title: str
    axes: tuple[SweepAxis, ...]
    points: tuple[ShownPoint, ...]
    rows: int | None
    columns: int | None
    settings: tuple[tuple[str, str], ...]
    command: str
    favourites_command: str = ""
    shared_words: tuple[str, ...] = ()
    ranges: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    generation: int = 0
    parents: tuple[tuple[str, ...], ...] = ()
    progress: SweepProgress | None = None
    has_films: bool = False
