"""Gallery page: `gallery.html` and its scripts in one file that needs no server or network."""

from __future__ import annotations

import hashlib
import html
import statistics
from dataclasses import asdict
from pathlib import Path
from typing import Any
from urllib.parse import quote

from render.config.formats import FORMATS
from render.export.picture import write_whole
from render.pages.templates import fill, script_json, table_rows
from render.sweeps.axes.definition import POINT, axis_index, axis_names, point_label
from render.sweeps.gallery.exhibition import Exhibition, ShownPoint
from render.sweeps.gallery.favourite_facts import BREED_CONFIG
from render.sweeps.gallery.make_commands import FAVOURITES
from render.system.version import __version__
from render.terminal.text import encoded

#: File name of the page in a sweep's directory.
GALLERY_PAGE = "index.html"


def write_gallery(directory: Path, exhibition: Exhibition) -> Path:
    """Write the page into a sweep's directory and return its path.

    An older page is replaced atomically.

    Raises:
        UserError: If it cannot be written.
    """
    path = directory / GALLERY_PAGE
    write_whole(path, encoded(gallery_html(exhibition)))
    return path


def gallery_html(exhibition: Exhibition) -> str:
    """Return the page's HTML.

    Data cannot become markup or script: text is escaped, JSON has no angle brackets.
    """
    names = axis_names(exhibition.axes)
    values = {
        "title": html.escape(exhibition.title),
        "kind": _kind(exhibition),
        "count": _count_text(exhibition.points),
        "aspect": f"{_aspect(exhibition.points):.4f}",
        "cells": "\n".join(_cell(shown, point_label(exhibition.axes, shown.value_indices)) for shown in exhibition.points),
        "settings": table_rows(exhibition.settings),
        "command": html.escape(exhibition.command),
        "data": script_json(_data(exhibition, names)),
    }
    return fill(Path(__file__).with_name("gallery.html"), values)


def _kind(exhibition: Exhibition) -> str:
    """Return what every point is, as the page's words name it."""
    return "film" if exhibition.has_films else "picture"


def _count_text(points: tuple[ShownPoint, ...]) -> str:
    """Return such as `12 points`."""
    return f"{len(points):,} point{'' if len(points) == 1 else 's'}"


def _aspect(points: tuple[ShownPoint, ...]) -> float:
    """Return the median height over width of the pictures, within 1/3..3."""
    aspects = [shown.size[0] / shown.size[1] for shown in points if min(shown.size) > 0]
    return min(3.0, max(1 / 3, statistics.median(aspects))) if aspects else 2 / 3


def _cell(shown: ShownPoint, label: str) -> str:
    """Return a point's cell for browsers without scripts: its thumbnail, linked to its file."""
    text = html.escape(label)
    thumbnail = shown.thumbnail or shown.large
    if thumbnail is not None:
        content = f'<img src="{_address(thumbnail)}" alt="{text}" loading="lazy" decoding="async">'
        if shown.motion is not None:
            source = f'<source media="(prefers-reduced-motion: no-preference)" srcset="{_address(shown.motion)}">'
            content = f"<picture>{source}{content}</picture>"
    else:
        words = {"failed": "failed", "waiting": "not dreamed yet"}.get(shown.state, "no picture to show")
        content = f'<b class="{html.escape(shown.state)}">{words}</b>'
    link = shown.film or shown.large or shown.picture
    href = "" if link is None else f' href="{_address(link)}"'
    reason = f'<span class="quiet">{html.escape(shown.reason)}</span>' if shown.reason else ""
    return f'<div class="cell"><a{href} title="{text}">{content}<span>{text}</span></a>{reason}</div>'


def _address(path: str) -> str:
    """Return a file name as the value of an HTML attribute."""
    return html.escape(quote(path))


def _data(exhibition: Exhibition, names: list[str]) -> dict[str, Any]:
    """Return the data that the page's scripts read."""
    keys_text = "\n".join([exhibition.title, *(axis.key for axis in exhibition.axes)])
    identity = hashlib.sha256(encoded(keys_text)).hexdigest()[:16]
    return {
        "title": exhibition.title,
        "kind": _kind(exhibition),
        "identity": identity,
        # Pages of earlier versions stored favourites alone.
        "storage": {"ratings": f"ratings of {identity}", "favourites": f"favourites of {identity}"},
        "progress": None if exhibition.progress is None else asdict(exhibition.progress),
        "axes": [
            {"key": axis.key, "name": name, "values": [value.label for value in axis.values]}
            for axis, name in zip(exhibition.axes, names, strict=True)
        ],
        "larger": "Make it larger" if exhibition.has_films else "Make it as a print",
        "rows": exhibition.rows,
        "columns": exhibition.columns,
        "favourites": {
            "file": FAVOURITES,
            "command": exhibition.favourites_command or f"make sweep conf=poster sweep.points={FAVOURITES}",
            "breed": f"make sweep conf={BREED_CONFIG} from={FAVOURITES}",
            "purpose": "This makes them larger:" if exhibition.has_films else "This dreams them as prints:",
            "version": __version__,
            "generation": exhibition.generation,
            "shared": exhibition.shared_words,
            "ranges": exhibition.ranges,
        },
        "points": [
            _point(shown, number) | {"parents": parents}
            for number, (shown, parents) in enumerate(zip(exhibition.points, _parents(exhibition), strict=True))
        ],
    }


def _parents(exhibition: Exhibition) -> list[list[tuple[str, int | None]]]:
    """Return for each point its parents: their words, and their number on the page, None if they are not on it."""
    point_axis = axis_index(exhibition.axes, POINT)
    if not exhibition.parents or point_axis is None:
        return [[] for _ in exhibition.points]
    places = {shown.value_indices: number for number, shown in enumerate(exhibition.points)}
    indices_by_words = {value.words: index for index, value in enumerate(exhibition.axes[point_axis].values)}

    def entry(shown: ShownPoint, parent: int) -> tuple[str, int | None]:
        words = exhibition.parents[parent]
        indices = list(shown.value_indices)
        indices[point_axis] = indices_by_words.get(words, -1)
        return " ".join(words), places.get(tuple(indices))

    return [[entry(shown, parent) for parent in shown.parents] for shown in exhibition.points]


def _point(shown: ShownPoint, number: int) -> dict[str, Any]:
    """Return a point's data."""
    # Use the directory's name, which depends on the point alone, so that links and favourites survive new points.
    name = shown.directory.rstrip("/").rpartition("/")[2] or str(number)
    files = {key: getattr(shown, key) for key in ("picture", "large", "thumbnail", "zoom", "motion", "film")}
    return {
        "id": name,
        "at": shown.value_indices,
        "state": shown.state,
        "reason": shown.reason,
        "isFolder": _is_folder(shown.picture),
        "size": shown.size,
        "seconds": shown.seconds,
        "words": shown.words,
        "listed": shown.favourite_words or shown.words,
        "command": shown.command,
        "poster": shown.poster_command,
    } | {key: None if path is None else quote(path) for key, path in files.items()}


def _is_folder(picture: str | None) -> bool:
    """Return whether a picture, or a film of numbered pictures, is a directory of files."""
    endings = ("-frames", *(form.ending for form in FORMATS.values() if form.directory))
    return picture is not None and picture.endswith(endings)
