"""The contact sheets of a sweep: `sheet.png`, or several, drawn from the points' thumbnails, one after the other."""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from render.config.formats import SMALL_PICTURES
from render.errors import UserError
from render.export.lettering import EMPTY, GROUND, draw_line, line_height
from render.export.metadata import Metadata, read_settings
from render.export.picture import image_of, write_picture
from render.sweep.sheet_layout import Sheet, Text, lay_out, remarks
from render.sweep.shown import Exhibition, Shown
from render.system.version import __version__

_NAME = re.compile(r"sheet(-[1-9]\d*)?\.png")
#: Key of a sheet's settings: of everything that is on it, sha256.
_DIGEST = "sheet"


def write_sheets(directory: Path, exhibition: Exhibition, side: int = 320) -> list[Path]:
    """Writes `sheet.png`, or `sheet-1.png` and so on, into a sweep's directory, and drops older sheets.

    Pictures are shown up to `side` px, from the points' thumbnails. A sheet that is there as it would come out is left as
    it is, so that doing this again while a sweep goes on costs what has changed. Raises `UserError` where a file that is no
    sheet of this program has such a name, or nothing can be written.
    """
    layouts = lay_out(exhibition, side)
    names = ["sheet.png"] if len(layouts) == 1 else [f"sheet-{number + 1}.png" for number in range(len(layouts))]
    written = [directory / name for name in names]
    _refuse_foreign(written)
    for path, layout in zip(written, layouts, strict=True):
        digest = _digest(directory, exhibition, layout)
        if _settings(path).get(_DIGEST) != digest:
            settings = {"command": exhibition.command, "made": dict(exhibition.made), _DIGEST: digest}
            drawn = image_of(_draw(directory, exhibition.points, layout))
            write_picture(path, drawn, "png", Metadata(settings, title=exhibition.title))
    for path in _sheets(directory):
        if path not in written and _DIGEST in _settings(path):
            path.unlink(missing_ok=True)
    return written


def check_sheets(directory: Path) -> None:
    """Raises `UserError` where a file has a sheet's name that this program did not write: asked before a sweep begins."""
    _refuse_foreign(_sheets(directory))


def _refuse_foreign(paths: Sequence[Path]) -> None:
    for path in paths:
        if os.path.lexists(path) and _DIGEST not in _settings(path):
            raise UserError(f"{path} is no contact sheet of this program: move it away")


def _sheets(directory: Path) -> list[Path]:
    return [path for path in sorted(directory.glob("sheet*.png")) if _NAME.fullmatch(path.name)]


def _settings(path: Path) -> dict[str, object]:
    try:
        return read_settings(path)
    except OSError:
        return {}


def _digest(directory: Path, exhibition: Exhibition, layout: Sheet) -> str:
    """The same for sheets that come out the same."""
    cells: list[object] = []
    for place in layout.places:
        point = exhibition.points[place.point]
        stamp = (0, 0)
        if point.thumbnail is not None:
            try:
                status = (directory / point.thumbnail).stat()
                stamp = (status.st_mtime_ns, status.st_size)
            except OSError:
                pass
        cells.append((point.state, point.reason, point.thumbnail, *stamp))
    plain = [__version__, exhibition.command, exhibition.made, repr(layout), cells]
    return hashlib.sha256(json.dumps(plain).encode()).hexdigest()


def _draw(directory: Path, points: Sequence[Shown], layout: Sheet) -> np.ndarray:
    """(rows, columns, 3) uint8 RGB."""
    height, width = layout.shape
    sheet = Image.new("RGB", (width, height), GROUND)
    for text in layout.texts:
        _write(sheet, text)
    draw = ImageDraw.Draw(sheet)
    for place in layout.places:
        point, (rows, columns) = points[place.point], place.rect
        picture = _thumbnail(directory, point, place.rect.shape) if point.state == "done" else None
        if picture is None:
            draw.rectangle((columns.start, rows.start, columns.stop - 1, rows.stop - 1), EMPTY)
            for text in remarks(point, place.rect, layout.font):
                _write(sheet, text)
        else:
            left = columns.start + (columns.size - picture.width) // 2
            sheet.paste(picture, (left, rows.start + (rows.size - picture.height) // 2))
    return np.asarray(sheet)


def _thumbnail(directory: Path, point: Shown, room: tuple[int, int]) -> Image.Image | None:
    """The point's picture as large as (rows, columns) px have room for; None where it cannot be read."""
    if point.thumbnail is None:
        return None
    try:
        # By Pillow: what libvips takes to set up a pipeline is as much as there is to do.
        with Image.open(directory / point.thumbnail, formats=SMALL_PICTURES) as image:
            scale = min(room[0] / image.height, room[1] / image.width)
            size = max(1, int(image.width * scale + 0.5)), max(1, int(image.height * scale + 0.5))
            return image.convert("RGB").resize(size, Image.Resampling.LANCZOS, reducing_gap=3.0)
    except OSError:
        return None


def _write(sheet: Image.Image, text: Text) -> None:
    rows, columns = text.rect
    column = columns.start + text.across * columns.size
    for number, line in enumerate(text.lines):
        row = rows.start + number * line_height(text.size)
        draw_line(sheet, (row, column), line, text.size, text.colour, across=text.across, room=columns.size)
