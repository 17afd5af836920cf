"""Distribution of a sweep's points to pages of contact sheets, rows and columns. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from render.sweeps.axes.definition import axis_names
from render.sweeps.gallery.exhibition import Exhibition


@dataclass(frozen=True)
class SheetPage:
    """Points in a grid of two axes, or in a sequence.

    In a sequence `rows` is empty, and each point has its name under it.

    Attributes:
        caption: The values of all other axes.
        row_axis: Name of the axis of the rows.
        rows: Names of the values of the rows.
        column_axis: Name of the axis of the columns.
        columns: Names of the values of the columns.
        cells: Each point's number in the exhibition, by (row, column).
    """

    caption: str
    row_axis: str
    rows: tuple[str, ...]
    column_axis: str
    columns: tuple[str, ...]
    cells: Mapping[tuple[int, int], int] = field(default_factory=dict)

    @property
    def shape(self) -> tuple[int, int]:
        """(rows, columns) of points."""
        return max(1, len(self.rows)), len(self.columns)

    @property
    def heading(self) -> str:
        """Text about the values on the page; may be empty."""
        by = f"by {self.column_axis}" if not self.rows and self.column_axis else ""
        return "; ".join(filter(None, (by, self.caption)))


def pages_of(exhibition: Exhibition) -> list[SheetPage]:
    """Return the pages in the order of their values, the last axis fastest.

    Every point is on one of them.

    Points are in a grid if rows and columns are both axes with several values, else in sequence.
    """
    axes, names = exhibition.axes, axis_names(exhibition.axes)
    layout = (exhibition.rows, exhibition.columns)
    layout_axes = [axis for axis in dict.fromkeys(layout) if axis is not None] or list(range(len(axes)))
    page_axes = [axis for axis in layout_axes if len(axes[axis].values) > 1]
    is_table = None not in layout and len(page_axes) == 2
    other_axes = [axis for axis in range(len(axes)) if axis not in page_axes]
    points_by_page: dict[tuple[int, ...], list[int]] = {}
    for number, point in enumerate(exhibition.points):
        points_by_page.setdefault(tuple(point.value_indices[axis] for axis in other_axes), []).append(number)
    pages = []
    for indices in sorted(points_by_page):
        points = points_by_page[indices]
        caption = ", ".join(
            f"{names[axis]} = {axes[axis].values[value].label}" for axis, value in zip(other_axes, indices, strict=True)
        )
        pages.append(
            _table(exhibition, caption, page_axes, names, points)
            if is_table
            else _sequence(exhibition, caption, page_axes, names, points)
        )
    return pages


def _table(
    exhibition: Exhibition, caption: str, page_axes: Sequence[int], names: Sequence[str], points: Sequence[int]
) -> SheetPage:
    """Return a page of rows and columns."""
    rows, columns = page_axes
    labels = [tuple(value.label for value in exhibition.axes[axis].values) for axis in page_axes]
    cells = {
        (exhibition.points[number].value_indices[rows], exhibition.points[number].value_indices[columns]): number
        for number in points
    }
    return SheetPage(caption, names[rows], labels[0], names[columns], labels[1], cells)


def _sequence(
    exhibition: Exhibition, caption: str, page_axes: Sequence[int], names: Sequence[str], points: Sequence[int]
) -> SheetPage:
    """Return a page of points in sequence."""
    ordered = sorted(points, key=lambda number: tuple(exhibition.points[number].value_indices[axis] for axis in page_axes))
    labels = [
        ", ".join(exhibition.axes[axis].values[exhibition.points[number].value_indices[axis]].label for axis in page_axes)
        for number in ordered
    ]
    name = " and ".join(names[axis] for axis in page_axes)
    return SheetPage(caption, "", (), name, tuple(labels), {(0, column): number for column, number in enumerate(ordered)})
