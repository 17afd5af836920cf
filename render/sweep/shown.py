"""What contact sheet and gallery show of a sweep: plain data, so that both can be drawn without rendering anything."""

from __future__ import annotations

from dataclasses import dataclass

from render.sweep.axes import Axis


@dataclass(frozen=True)
class Shown:
    """A point. Names of files are relative to the sweep's directory, with slashes; None where there is no such file.

    `at` is the number of its value on each axis; `state` is done, failed or waiting, and `reason` says why it failed.
    `picture` is the finished file, `large` what a browser can show of it whole (the picture itself where it can),
    `thumbnail` a small WebP, `zoom` a page that shows it as deep zoom. `size` is (rows, columns) of the picture, px.
    `words` are the `key=value` of its axes; `command` renders it again, `poster` as a print. `listed` are the `key=value`
    that a file of favourites has for it: `words` where there are none.
    """

    at: tuple[int, ...]
    state: str
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
    poster: str
    listed: tuple[str, ...] = ()


@dataclass(frozen=True)
class Exhibition:
    """A sweep to be shown: `rows` and `columns` are numbers of the axes that are laid out so, None where there is none.

    `made` are lines about how it was made: what, and the words for it. `command` makes it again;
    `favourites` dreams as prints what a file of favourites lists (empty: with nothing but the points' own words).
    """

    title: str
    axes: tuple[Axis, ...]
    points: tuple[Shown, ...]
    rows: int | None
    columns: int | None
    made: tuple[tuple[str, str], ...]
    command: str
    favourites: str = ""
