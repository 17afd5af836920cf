"""Position of a picture on the canvas that was dreamed, and borders of its tiles. Pure.

An export stores this in the picture's settings under `print`, so that the borders can be found when the file is checked:

    {"canvas": [rows, columns], "tiles": [rows, columns], "blocks": [down, across], "origin": [row, column],
     "panel": [rows, columns], "bleed_px": px, "trim": [rows, columns]}
"""

from __future__ import annotations

import operator
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from render.canvas.store import MAX_SIDE_PX
from render.geometry.blocks import deal_blocks
from render.geometry.geometry import Axis, Grid

#: Key of a layout in a picture's settings and in a run's record.
KEY = "print"
#: Most blocks of a plausible canvas: settings in a picture are not trusted.
_MAX_BLOCKS = 100_000
#: (rows, columns)
Shape = tuple[int, int]


@dataclass(frozen=True)
class PrintLayout:
    """Layout of a print; None is unknown.

    Attributes:
        canvas: (rows, columns) px of the canvas.
        tiles: (rows, columns) px of a tile's core at the last octave.
        blocks: Number of blocks (down, across).
        origin: (row, column) of the canvas pixel that is the picture's first.
        panel: (rows, columns) px of the picture, if it is a panel of the print.
        bleed_px: Bleed on every side of `trim`, px.
        trim: (rows, columns) px of the whole print without its bleed.
    """

    canvas: Shape | None = None
    tiles: Shape | None = None
    blocks: Shape | None = None
    origin: Shape = (0, 0)
    panel: Shape | None = None
    bleed_px: int | None = None
    trim: Shape | None = None

    def to_settings(self) -> dict[str, Any]:
        """Return the layout as plain data for JSON, without unknown values."""
        shapes = {name: getattr(self, name) for name in ("canvas", "tiles", "blocks", "origin", "panel", "trim")}
        plain: dict[str, Any] = {name: list(shape) for name, shape in shapes.items() if shape is not None}
        return plain if self.bleed_px is None else plain | {"bleed_px": self.bleed_px}

    @classmethod
    def from_settings(cls, settings: Mapping[str, Any]) -> PrintLayout:
        """Return the layout in settings or a record; missing and invalid values are unknown."""
        layout = settings.get(KEY)
        if not isinstance(layout, Mapping):
            return cls()
        bleed = layout.get("bleed_px")
        return cls(
            canvas=_shape(layout.get("canvas")),
            tiles=_shape(layout.get("tiles")),
            blocks=_blocks(layout.get("blocks")),
            origin=_shape(layout.get("origin"), least=0) or (0, 0),
            panel=_shape(layout.get("panel")),
            bleed_px=bleed if type(bleed) is int and 0 <= bleed <= MAX_SIDE_PX else None,
            trim=_shape(layout.get("trim")),
        )

    @classmethod
    def from_record(cls, record: Mapping[str, Any]) -> PrintLayout:
        """Return the layout of a run's own picture, from its `run.json`."""
        if isinstance(record.get(KEY), Mapping):
            return cls.from_settings(record)
        try:
            plan = record["plan"]
            rows, columns = (Axis(**plan["octaves"][-1]["grid"][axis]) for axis in ("rows", "columns"))
            grid = Grid(rows, columns)
            blocks = deal_blocks(grid, plan["workers"])
        except (KeyError, IndexError, TypeError, ValueError):
            return cls()
        down = len({block.tile_rows for block in blocks})
        return cls(grid.canvas.shape, grid.core_shape, (down, len(blocks) // down))

    def lies_on_canvas(self, shape: Shape) -> bool:
        """Return whether a picture of `shape` can be an unscaled part of the canvas, or all of it.

        True if the canvas is unknown.
        """
        if self.canvas is None:
            return True
        if self.panel is not None and self.panel != shape:
            return False
        if self.origin == (0, 0) and shape not in (self.panel, self.trim):
            return self.canvas == shape
        return all(start + side <= length for start, side, length in zip(self.origin, shape, self.canvas, strict=True))

    def tile_borders(self, shape: Shape) -> tuple[list[int], list[int]]:
        """Return the rows and the columns of a picture at which a tile begins; empty if unknown."""
        if self.tiles is None:
            return [], []
        rows, columns = (borders(*axis) for axis in zip(shape, self.tiles, self.origin, strict=True))
        return rows, columns

    def block_borders(self, shape: Shape) -> tuple[list[int], list[int]]:
        """Return the tile borders at which a block of another worker begins; empty if unknown."""
        if self.tiles is None or self.blocks is None or self.canvas is None:
            return [], []
        rows, columns = (
            Axis(length, tile, halo=0, fill=0, stride=1, mode="reflect")
            for length, tile in zip(self.canvas, self.tiles, strict=True)
        )
        dealt_blocks = deal_blocks(Grid(rows, columns), operator.mul(*self.blocks), self.blocks)
        starts = (
            {block.pixels.rows.start - self.origin[0] for block in dealt_blocks},
            {block.pixels.columns.start - self.origin[1] for block in dealt_blocks},
        )
        tiles = self.tile_borders(shape)
        return sorted(starts[0].intersection(tiles[0])), sorted(starts[1].intersection(tiles[1]))


def _blocks(value: Any) -> Shape | None:
    """Return a valid number of blocks (down, across), or None."""
    blocks = _shape(value)
    return blocks if blocks is not None and operator.mul(*blocks) <= _MAX_BLOCKS else None


def _shape(value: Any, least: int = 1) -> Shape | None:
    """Return two integers from `least` to the longest side; None if it is anything else."""
    if not isinstance(value, list | tuple) or len(value) != 2:
        return None
    rows, columns = value
    is_valid = all(type(side) is int and least <= side <= MAX_SIDE_PX for side in (rows, columns))
    return (rows, columns) if is_valid else None


def borders(length: int, tile: int, origin: int = 0) -> list[int]:
    """Return the pixels, after the first, at which tiles of `tile` px begin on an axis.

    Args:
        length: Length of the axis in the picture, px.
        tile: Length of a tile, px.
        origin: Canvas pixel that is the picture's first.
    """
    first = -(-(origin + 1) // tile) * tile
    return list(range(first - origin, length, tile))
