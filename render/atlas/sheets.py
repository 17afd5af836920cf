"""Contact sheets of an atlas."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from render.atlas.atlas_directory import AtlasDirectory
from render.config.formats import SMALL_PICTURES
from render.export.labelled_sheet import Cell, draw_sheets, sheet_layouts
from render.export.lettering import GROUND
from render.export.metadata import Metadata
from render.export.picture import image_of, write_picture


def write_sheets(
    directory: AtlasDirectory,
    title: str,
    subtitle: str,
    cells: Sequence[Cell],
    names: Sequence[str],
    columns: int | None,
) -> list[Path]:
    """Write `sheet.png`, or `sheet-1.png` and so on, and remove older sheets.

    Args:
        directory: the atlas.
        title: heading of every sheet.
        subtitle: line under the heading.
        cells: label of each picture.
        names: names of the pictures in the directory, in the order of `cells`.
        columns: pictures in a row; None to choose.

    Returns:
        The paths of the sheets.
    """

    def picture(number: int) -> np.ndarray:
        """Return a picture of the atlas on the sheet's ground: (rows, columns, 3) uint8 RGB."""
        with Image.open(directory.path / names[number], formats=SMALL_PICTURES) as image:
            ground = Image.new("RGBA", image.size, GROUND)
            return np.asarray(Image.alpha_composite(ground, image.convert("RGBA")).convert("RGB"))

    single_sheet = len(sheet_layouts(len(cells), picture(0).shape[:2], columns)) == 1
    sheet_names = []
    for number, sheet in enumerate(draw_sheets(title, subtitle, cells, picture, columns)):
        name = "sheet.png" if single_sheet else f"sheet-{number + 1}.png"
        write_picture(directory.path / name, image_of(sheet), "png", Metadata(title=title))
        directory.add_picture(name)
        sheet_names.append(name)
    directory.drop_pictures(*(name for name in directory.pictures if name.startswith("sheet") and name not in sheet_names))
    return [directory.path / name for name in sheet_names]
