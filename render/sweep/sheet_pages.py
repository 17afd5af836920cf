"""Which points of a sweep stand together on a contact sheet, in which row and column, and what the others have. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from render.sweep.axes import axis_names
from render.sweep.shown import Exhibition


@dataclass(frozen=True)
class Page:
    """Points that are laid out by two axes, or one after the other: then `rows` is empty and each has its name under it.

    `rows` and `columns` are names of values, `cells` says which point (its number in the exhibition) is where, by (row,
    column). `caption` names the values of all other axes.
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
        """What is on the page; empty where there is nothing to say."""
        by = f"by {self.column_axis}" if not self.rows and self.column_axis else ""
        return "; ".join(filter(None, (by, self.caption)))


def pages_of(exhibition: Exhibition) -> list[Page]:
    """The pages in the order of their values, the last axis fastest. Every point is on one of them.

    An axis of one value, or none beside another, needs no dimension of its own: points then follow each other.
    """
    axes, names = exhibition.axes, axis_names(exhibition.axes)
    wanted = (exhibition.rows, exhibition.columns)
    asked = [axis for axis in dict.fromkeys(wanted) if axis is not None] or list(range(len(axes)))
    laid = [axis for axis in asked if len(axes[axis].values) > 1]
    grid = None not in wanted and len(laid) == 2
    rest = [axis for axis in range(len(axes)) if axis not in laid]
    grouped: dict[tuple[int, ...], list[int]] = {}
    for number, point in enumerate(exhibition.points):
        grouped.setdefault(tuple(point.at[axis] for axis in rest), []).append(number)
    pages = []
    for at in sorted(grouped):
        points = grouped[at]
        caption = ", ".join(
            f"{names[axis]} = {axes[axis].values[value].label}" for axis, value in zip(rest, at, strict=True)
        )
        pages.append(
            _grid(exhibition, caption, laid, names, points) if grid else _flow(exhibition, caption, laid, names, points)
        )
    return pages


def _grid(exhibition: Exhibition, caption: str, laid: Sequence[int], names: Sequence[str], points: Sequence[int]) -> Page:
    rows, columns = laid
    labels = [tuple(value.label for value in exhibition.axes[axis].values) for axis in laid]
    cells = {(exhibition.points[number].at[rows], exhibition.points[number].at[columns]): number for number in points}
    return Page(caption, names[rows], labels[0], names[columns], labels[1], cells)


def _flow(exhibition: Exhibition, caption: str, laid: Sequence[int], names: Sequence[str], points: Sequence[int]) -> Page:
    ordered = sorted(points, key=lambda number: tuple(exhibition.points[number].at[axis] for axis in laid))
    labels = [
        ", ".join(exhibition.axes[axis].values[exhibition.points[number].at[axis]].label for axis in laid)
        for number in ordered
    ]
    name = " and ".join(names[axis] for axis in laid)
    return Page(caption, "", (), name, tuple(labels), {(0, place): number for place, number in enumerate(ordered)})
