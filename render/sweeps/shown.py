"""Content of contact sheet and gallery as plain data, so that both can be drawn without rendering."""

from __future__ import annotations

from dataclasses import dataclass

from render.sweeps.axes import Axis


@dataclass(frozen=True)
class Shown:
    """Point. File names are relative to the sweep's directory, with slashes; None if there is no such file.

    `at` is the index of its value on each axis. `state` is done, failed or waiting; `reason` says why it failed.
    `picture` is the finished file; `large` is a version that a browser can show whole (the picture itself if possible),
    `thumbnail` a small WebP, `zoom` a page that shows it as deep zoom. `size` is the picture's (rows, columns), px.
    `words` are the `key=value` of its axes; `command` renders it again, `poster` renders it as a print. `listed` are the
    `key=value` for it in a file of favourites; if empty, `words` are used.
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
    """Sweep to be shown.

    `rows` and `columns` are the indices of the axes laid out so, or None. `made` are (name, text) of its settings.
    `command` makes it again; `favourites` is the command that dreams a file of favourites as prints (empty for the default
    one).
    """

    title: str
    axes: tuple[Axis, ...]
    points: tuple[Shown, ...]
    rows: int | None
    columns: int | None
    made: tuple[tuple[str, str], ...]
    command: str
    favourites: str = ""
