"""Content of a contact sheet from directories alone: of a sweep, or of several runs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal, TypedDict

from render.errors import UserError
from render.job.run_record import read_run, refuse_film
from render.storage.records import FileName, WholeNumber, fits
from render.sweeps.axes.definition import AxisValue, SweepAxis, axis_index
from render.sweeps.axes.values import ValueText, labels
from render.sweeps.gallery.exhibition import Exhibition, ShownPoint
from render.sweeps.monitor.board import Board
from render.sweeps.monitor.sweep_record import SWEEP, read_sweep
from render.sweeps.rendering.thumbnails import THUMBNAIL, picture_size

#: Axis of a sheet of runs.
_RUN = "run"


class _Axis(TypedDict):
    key: str
    values: list[str]


class _PlacedPoint(TypedDict):
    at: list[WholeNumber]


class _Placed(TypedDict):
    """Part of `sweep.json` that says where points stand in the grid."""

    axes: list[_Axis]
    points: list[_PlacedPoint]


class _Run(TypedDict):
    """Part of `run.json` that names its picture."""

    picture: FileName


class _Table(TypedDict):
    table: list[WholeNumber | None]


def sweep_exhibition(directory: Path, rows: str = "", columns: str = "", title: str = "") -> Exhibition:
    """Return the content of the contact sheet of a sweep.

    Args:
        directory: The sweep's directory.
        rows: Key or name of the axis along the rows; empty for the sweep's own.
        columns: Key or name of the axis along the columns; empty for the sweep's own.
        title: Title of the sheet; empty for the directory's name.

    Raises:
        UserError: There is no sweep in the directory, its record is damaged, or an axis does not exist.
    """
    record = read_sweep(directory)
    if not record:
        raise UserError(f"run={directory} is no sweep's directory: it holds no {SWEEP} that can be read")
    if not fits(record, _Placed) or not all(axis["values"] for axis in record["axes"]):
        raise UserError(f"run={directory}: its {SWEEP} does not say where points stand: the sweep's command writes it anew")
    axes = tuple(SweepAxis(axis["key"], tuple(AxisValue(label, ()) for label in axis["values"])) for axis in record["axes"])
    places = [tuple(point["at"]) for point in record["points"]]
    lengths = [len(axis.values) for axis in axes]
    for place in places:
        if len(place) != len(axes) or any(index >= length for index, length in zip(place, lengths, strict=True)):
            raise UserError(
                f"run={directory}: its {SWEEP} names a point outside of its grid: run the sweep's command again"
            )
    statuses = Board.of(directory).point_statuses
    points = []
    for place, point in zip(places, record["points"], strict=True):
        status = statuses.get(point["number"])
        is_done = status is not None and status.state == "done"
        folder = point.get("directory") or ""
        thumbnail = f"{folder}/{THUMBNAIL}"
        size = picture_size(directory / thumbnail) if is_done and folder else None
        state: Literal["done", "failed", "waiting"] = (
            "done" if size else "failed" if status is not None and status.state == "failed" else "waiting"
        )
        reason = status.reason if status is not None and state == "failed" else ""
        points.append(_shown(place, state, reason, folder, _picture(directory, folder), thumbnail if size else None, size))
    row_axis, column_axis = _table_axes(record, axes)
    row_axis = _named_axis(axes, rows, "rows", directory) if rows else row_axis
    column_axis = _named_axis(axes, columns, "columns", directory) if columns else column_axis
    if row_axis is not None and row_axis == column_axis:
        raise UserError(f"rows and columns are both {axes[row_axis].key}: name two axes")
    return Exhibition(title or directory.name, axes, tuple(points), row_axis, column_axis, (), "")


def run_exhibition(directories: Sequence[Path], title: str = "") -> Exhibition:
    """Return the content of a contact sheet of several runs, in their order.

    Raises:
        UserError: A directory has no run, or the run has no finished picture or is a film.
    """
    points = []
    for number, directory in enumerate(directories):
        record = read_run(directory).record
        refuse_film(record, f"run={directory}")
        picture = directory / record["picture"] if fits(record, _Run) else None
        size = picture_size(picture) if picture is not None else None
        if picture is None or size is None:
            raise UserError(f"run={directory} has no finished picture: name directories of runs that have ended")
        points.append(_shown((number,), "done", "", str(directory), str(picture), str(picture), size))
    names = labels([ValueText(str(directory), (directory.name,)) for directory in directories])
    axis = SweepAxis(_RUN, tuple(AxisValue(name, ()) for name in names))
    return Exhibition(title, (axis,), tuple(points), None, 0, (), "")


def _shown(
    place: tuple[int, ...],
    state: Literal["done", "failed", "waiting"],
    reason: str,
    folder: str,
    picture: str | None,
    thumbnail: str | None,
    size: tuple[int, int] | None,
) -> ShownPoint:
    return ShownPoint(
        place, state, reason, folder, picture, None, thumbnail, None, size or (0, 0), 0.0, (), "", ""
    )  # fmt: skip


def _picture(directory: Path, folder: str) -> str | None:
    """Return the finished picture of a point, relative to the sweep's directory; None if its record names none."""
    record = read_run(directory / folder).record if folder else {}
    return f"{folder}/{record['picture']}" if fits(record, _Run) else None


def _table_axes(record: object, axes: Sequence[SweepAxis]) -> tuple[int | None, int | None]:
    """Return the indices of the row and column axes: as recorded, else the last two."""
    if isinstance(record, dict) and fits(record, _Table):
        table = record["table"]
        if len(table) == 2 and all(index is None or index < len(axes) for index in table):
            return table[0], table[1]
    return (len(axes) - 2 if len(axes) > 1 else None), len(axes) - 1


def _named_axis(axes: Sequence[SweepAxis], name: str, option: str, directory: Path) -> int:
    index = axis_index(axes, name)
    if index is None:
        keys_text = ", ".join(axis.key for axis in axes)
        raise UserError(f"{option}={name}: {directory} has no such axis: there is {keys_text}")
    return index
