"""Levels and tiles of a deep-zoom picture, counted as the Deep Zoom Image format does.

Level `top` is the picture itself, every level below is half as large, rounded up, down to one pixel at level 0. A level is
cut into squares of `tile` px; each tile shows `overlap` px more on every side that has a neighbour. (Microsoft, Deep Zoom
File Format Overview; libvips' `dzsave` writes the same.)
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from render.geometry.geometry import Interval, Rect

NAMESPACE = "http://schemas.microsoft.com/deepzoom/2008"


@dataclass(frozen=True)
class Pyramid:
    """The pyramid of a picture of `height` x `width` px."""

    height: int
    width: int
    tile: int = 254
    overlap: int = 1

    @property
    def top(self) -> int:
        """The level that holds every pixel: ceil(log2(longer side))."""
        return (max(self.height, self.width) - 1).bit_length()

    def shrink(self, level: int) -> int:
        """Return how many pixels of the picture make one pixel of the level, along each axis."""
        return 1 << (self.top - level)

    def shape(self, level: int) -> tuple[int, int]:
        """Return (height, width) px of a level."""
        shrink = self.shrink(level)
        return -(-self.height // shrink), -(-self.width // shrink)

    def tiles(self, level: int) -> tuple[int, int]:
        """Return how many (rows, columns) of tiles a level has."""
        height, width = self.shape(level)
        return -(-height // self.tile), -(-width // self.tile)

    def has(self, level: int, row: int, column: int) -> bool:
        """Return whether the tile exists."""
        if not 0 <= level <= self.top:
            return False
        rows, columns = self.tiles(level)
        return 0 <= row < rows and 0 <= column < columns

    def rect(self, level: int, row: int, column: int) -> Rect:
        """Return the rectangle that a tile shows, overlap included, in pixels of its level."""
        height, width = self.shape(level)
        return Rect(self._interval(row, height), self._interval(column, width))

    def covered(self, level: int, rect: Rect) -> Rect:
        """Return the rectangle of the picture from which a rectangle of a level is made."""
        shrink = self.shrink(level)
        rows, columns = (
            Interval(interval.start * shrink, min(interval.stop * shrink, length))
            for interval, length in ((rect.rows, self.height), (rect.columns, self.width))
        )
        return Rect(rows, columns)

    def descriptor(self, url: str, form: str) -> dict[str, Any]:
        """Return the image description for OpenSeadragon; tiles are at `url`LEVEL/COLUMN_ROW.`form`."""
        return {
            "Image": {
                "xmlns": NAMESPACE,
                "Url": url,
                "Format": form,
                "Overlap": str(self.overlap),
                "TileSize": str(self.tile),
                "Size": {"Height": str(self.height), "Width": str(self.width)},
            }
        }

    def _interval(self, index: int, length: int) -> Interval:
        return Interval(max(0, index * self.tile - self.overlap), min(length, (index + 1) * self.tile + self.overlap))
