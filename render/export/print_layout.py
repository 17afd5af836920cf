"""Where a finished picture lies on the canvas that was dreamed, and where the tiles and blocks met. Pure.

An export puts this into the picture's settings under `print`, so that whoever checks the file can find the borders:

    {"canvas": [rows, columns], "tiles": [rows, columns], "blocks": [down, across], "origin": [row, column],
     "bleed_px": px, "trim": [rows, columns]}
"""

from __future__ import annotations

import operator
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from render.geometry.geometry import Axis, Grid, deal_blocks

#: The key of the settings inside a picture, and of a run's record, that holds a layout.
KEY = "print"
#: Longest side of a canvas, px, and most blocks of one: settings in a picture may say anything.
_MOST_SIDE, _MOST_BLOCKS = 1 << 25, 100_000
Shape = tuple[int, int]


@dataclass(frozen=True)
class PrintLayout:
    """All (rows, columns) px; None where it is not known.

    `tiles` is the core of the last octave's grid, `blocks` how many blocks lie (below, beside) one another, `origin` the
    canvas pixel that is the picture's first: not (0, 0) in a panel. `bleed_px` lies around `trim` on every side.
    """

    canvas: Shape | None = None
    tiles: Shape | None = None
    blocks: Shape | None = None
    origin: Shape = (0, 0)
    bleed_px: int | None = None
    trim: Shape | None = None

    def to_settings(self) -> dict[str, Any]:
        """As plain data, without what is not known."""
        shapes = {name: getattr(self, name) for name in ("canvas", "tiles", "blocks", "origin", "trim")}
        plain: dict[str, Any] = {name: list(shape) for name, shape in shapes.items() if shape is not None}
        return plain if self.bleed_px is None else plain | {"bleed_px": self.bleed_px}

    @classmethod
    def from_settings(cls, settings: Mapping[str, Any]) -> PrintLayout:
        """The layout in a picture's settings or a run's record; whatever is missing or makes no sense is not known."""
        found = settings.get(KEY)
        if not isinstance(found, Mapping):
            return cls()
        bleed = found.get("bleed_px")
        return cls(
            canvas=_shape(found.get("canvas")),
            tiles=_shape(found.get("tiles")),
            blocks=_blocks(found.get("blocks")),
            origin=_shape(found.get("origin"), least=0) or (0, 0),
            bleed_px=bleed if type(bleed) is int and 0 <= bleed <= _MOST_SIDE else None,
            trim=_shape(found.get("trim")),
        )

    @classmethod
    def from_record(cls, record: Mapping[str, Any]) -> PrintLayout:
        """The layout of a run's own picture, from its `run.json`."""
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
        """Whether a picture of this shape can be the canvas, or a part of it, at its size; True where it is not known."""
        if self.canvas is None:
            return True
        if self.origin == (0, 0) and self.trim != shape:
            return self.canvas == shape
        return all(at + side <= whole for at, side, whole in zip(self.origin, shape, self.canvas, strict=True))

    def tile_borders(self, shape: Shape) -> tuple[list[int], list[int]]:
        """Rows and columns of a picture of `shape` before which a tile ends; empty where it is not known."""
        if self.tiles is None:
            return [], []
        rows, columns = (borders(*axis) for axis in zip(shape, self.tiles, self.origin, strict=True))
        return rows, columns

    def block_borders(self, shape: Shape) -> tuple[list[int], list[int]]:
        """Those of the tiles' borders where another block, another worker's, begins."""
        if self.tiles is None or self.blocks is None or self.canvas is None:
            return [], []
        rows, columns = (
            Axis(length, tile, halo=0, fill=0, stride=1, mode="reflect")
            for length, tile in zip(self.canvas, self.tiles, strict=True)
        )
        dealt = deal_blocks(Grid(rows, columns), operator.mul(*self.blocks), self.blocks)
        starts = (
            {block.pixels.rows.start - self.origin[0] for block in dealt},
            {block.pixels.columns.start - self.origin[1] for block in dealt},
        )
        tiles = self.tile_borders(shape)
        return sorted(starts[0].intersection(tiles[0])), sorted(starts[1].intersection(tiles[1]))


def _blocks(value: Any) -> Shape | None:
    blocks = _shape(value)
    return blocks if blocks is not None and operator.mul(*blocks) <= _MOST_BLOCKS else None


def _shape(value: Any, least: int = 1) -> Shape | None:
    if not isinstance(value, list | tuple) or len(value) != 2:
        return None
    rows, columns = value
    fine = all(type(side) is int and least <= side <= _MOST_SIDE for side in (rows, columns))
    return (rows, columns) if fine else None


def borders(length: int, tile: int, origin: int = 0) -> list[int]:
    """Where tiles of `tile` px meet on an axis of `length` px that begins at pixel `origin` of the canvas."""
    first = -(-(origin + 1) // tile) * tile
    return list(range(first - origin, length, tile))
