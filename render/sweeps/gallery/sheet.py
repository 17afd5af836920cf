"""Contact sheets of a sweep, `sheet.png` or several, drawn from the points' thumbnails."""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Callable, Sequence
from dataclasses import astuple
from functools import partial
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from render.config.formats import SMALL_PICTURES
from render.errors import UserError
from render.export.lettering import EMPTY, GROUND, draw_line, line_height
from render.export.metadata import Metadata, read_settings
from render.export.picture import image_of, write_picture
from render.sweeps.gallery.exhibition import Exhibition, ShownPoint
from render.sweeps.gallery.sheet_layout import ContactSheetLayout, lay_out
from render.sweeps.gallery.sheet_text import SheetText, cell_texts
from render.system.version import __version__

_NAME = re.compile(r"sheet(-[1-9]\d*)?\.png")
#: Key in a sheet's settings: sha256 of its content.
_DIGEST = "sheet"


def write_sheets(directory: Path, exhibition: Exhibition, side: int = 320) -> list[Path]:
    """Write `sheet.png`, or `sheet-1.png` and so on, and remove older sheets.

    Pictures are shown up to `side` px, from the points' thumbnails. A sheet whose content has not changed is not written
    again.

    Raises:
        UserError: If a file of such a name is not a sheet of this program, or a sheet cannot be written.
    """
    layouts = lay_out(exhibition, side)
    names = ["sheet.png"] if len(layouts) == 1 else [f"sheet-{number + 1}.png" for number in range(len(layouts))]
    paths = [directory / name for name in names]
    _refuse_foreign(paths)
    for path, layout in zip(paths, layouts, strict=True):
        digest = _digest(directory, exhibition, layout)
        if _settings(path).get(_DIGEST) != digest:
            settings = {"command": exhibition.command, "made": dict(exhibition.settings), _DIGEST: digest}
            image = image_of(draw_sheet(exhibition.points, layout, partial(fitted_thumbnail, directory)))
            write_picture(path, image, "png", Metadata(settings, title=exhibition.title))
    for path in _sheet_files(directory):
        if path not in paths and _DIGEST in _settings(path):
            path.unlink(missing_ok=True)
    return paths


def check_sheets(directory: Path) -> None:
    """Raise `UserError` if a file with a sheet's name was not written by this program.

    To be called before a sweep begins.
    """
    _refuse_foreign(_sheet_files(directory))


def _refuse_foreign(paths: Sequence[Path]) -> None:
    """Raise `UserError` for an existing file that is no contact sheet of this program."""
    for path in paths:
        if os.path.lexists(path) and _DIGEST not in _settings(path):
            raise UserError(f"{path} is no contact sheet of this program: move it away")


def _sheet_files(directory: Path) -> list[Path]:
    """Return the files in a sweep's directory that have a sheet's name."""
    return [path for path in sorted(directory.glob("sheet*.png")) if _NAME.fullmatch(path.name)]


def _settings(path: Path) -> dict[str, object]:
    """Return the settings in a sheet's metadata; none if the file cannot be read."""
    try:
        return read_settings(path)
    except OSError:
        return {}


def _digest(directory: Path, exhibition: Exhibition, layout: ContactSheetLayout) -> str:
    """Return a digest of a sheet's content."""
    contents: list[object] = []
    for cell in layout.cells:
        point = exhibition.points[cell.point]
        stamp = (0, 0)
        if point.thumbnail is not None:
            try:
                status = (directory / point.thumbnail).stat()
                stamp = (status.st_mtime_ns, status.st_size)
            except OSError:
                pass
        contents.append((point.state, point.reason, point.thumbnail, *stamp))
    content = [__version__, exhibition.command, exhibition.settings, astuple(layout), contents]
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()


def draw_sheet(
    points: Sequence[ShownPoint],
    layout: ContactSheetLayout,
    picture_of: Callable[[ShownPoint, tuple[int, int]], Image.Image | None],
) -> np.ndarray:
    """Return the sheet as (rows, columns, 3) uint8 RGB.

    `picture_of` returns the picture of a point scaled to fit into (rows, columns) px; None if it cannot be read.
    """
    height, width = layout.shape
    sheet = Image.new("RGB", (width, height), GROUND)
    for text in layout.texts:
        _write(sheet, text)
    draw = ImageDraw.Draw(sheet)
    for cell in layout.cells:
        point, (rows, columns) = points[cell.point], cell.rect
        picture = picture_of(point, cell.rect.shape) if point.state == "done" else None
        if picture is None:
            draw.rectangle((columns.start, rows.start, columns.stop - 1, rows.stop - 1), EMPTY)
            for text in cell_texts(point, cell.rect, layout.font):
                _write(sheet, text)
        else:
            left = columns.start + (columns.size - picture.width) // 2
            sheet.paste(picture, (left, rows.start + (rows.size - picture.height) // 2))
    return np.asarray(sheet)


def fitted_thumbnail(directory: Path, point: ShownPoint, room: tuple[int, int]) -> Image.Image | None:
    """Return the point's picture scaled to fit into `room`, (rows, columns) px.

    Return None if it cannot be read.
    """
    if point.thumbnail is None:
        return None
    try:
        # Use Pillow: for such small files the setup of a libvips pipeline doubles the time.
        with Image.open(directory / point.thumbnail, formats=SMALL_PICTURES) as image:
            scale = min(room[0] / image.height, room[1] / image.width)
            size = max(1, int(image.width * scale + 0.5)), max(1, int(image.height * scale + 0.5))
            return image.convert("RGB").resize(size, Image.Resampling.LANCZOS, reducing_gap=3.0)
    except OSError:
        return None


def _write(sheet: Image.Image, text: SheetText) -> None:
    """Draw the lines of a text."""
    rows, columns = text.rect
    column = columns.start + text.across * columns.size
    for number, line in enumerate(text.lines):
        row = rows.start + number * line_height(text.size)
        draw_line(sheet, (row, column), line, text.size, text.colour, across=text.across, room=columns.size)
