"""`render.sweep`: a grid of dreams from Python."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from render.api.dreams import ImageArgument, ObjectiveArgument, objective_settings, running
from render.config.compose import PATH_KEYS
from render.config.hydra_text import hydra_text, name_text
from render.config.keywords import flattened, plain, untouched_hydra
from render.errors import UserError
from render.sweeps.axes.parsing import FAVOURITES_KEY
from render.sweeps.breeding.generation import define_sweep
from render.sweeps.sweep import render_sweep
from render.sweeps.sweep_directory import sweep_path


@dataclass(frozen=True)
class SweepPoint:
    """Point of a sweep: `label` names its values, `directory` is its run directory."""

    label: str
    directory: Path


@dataclass(frozen=True)
class SweepResult:
    """Sweep that has ended. In a notebook it shows its contact sheet.

    Attributes:
        directory: The sweep's directory, with `index.html` to choose from and `sheet.png`.
        points: All points, in order.
        failures: Why points failed, by their labels.
    """

    directory: Path
    points: tuple[SweepPoint, ...]
    failures: Mapping[str, str]

    def _repr_png_(self) -> bytes | None:
        """Return the contact sheet as PNG; None where it takes several."""
        sheet = self.directory / "sheet.png"
        return sheet.read_bytes() if sheet.is_file() else None


def sweep(
    image: ImageArgument = None,
    *,
    axes: Mapping[str, Sequence[Any]] | None = None,
    favourites: str | os.PathLike[str] | None = None,
    objective: ObjectiveArgument = None,
    root: str = "preview",
    quiet: bool = False,
    **settings: Any,
) -> SweepResult:
    """Dream every combination of the axes' values, or what is missing of them, on one farm.

    Args:
        image: As for `dream`.
        axes: Values by key, such as `{"step_size": [1, 2], "objective.terms": [["mixed3"], ["mixed4"]]}`.
        favourites: File of favourites that a sweep's page exported, from which points are bred; with `root="breed"`.
        objective: As for `dream`, for all points.
        root: The root config, by name or path.
        quiet: Show no progress.
        **settings: As for `dream`, for all points; `**{"sweep.dir": "night"}` says where.

    Raises:
        UserError: For settings that cannot work. Points that fail on their way are in `failures`.
    """
    shared = dict(flattened({**({} if image is None else {"image": image}), **objective_settings(objective), **settings}))
    words = [_word(key, [value]) for key, value in {**shared, "quiet": quiet}.items()]
    if favourites is not None:
        words.append(_word(FAVOURITES_KEY, [plain(favourites)]))
    for key, values in (axes or {}).items():
        if isinstance(values, str | Mapping) or not list(values):
            raise UserError(f"axes: {key} needs a list of values, not {values!r}")
        words.append(_word(key, [plain(value) for value in values]))
    with untouched_hydra(), running():
        definition = define_sweep(root, words)
        directory = sweep_path(definition)
        render_sweep(definition, words)
    record = json.loads((directory / "sweep.json").read_text())
    points = tuple(
        SweepPoint(point["label"], directory / point["directory"]) for point in record["points"] if "directory" in point
    )
    return SweepResult(directory, points, {failure["point"]: failure["reason"] for failure in record.get("failures", [])})


def _word(key: str, values: Sequence[Any]) -> str:
    """Return `key=VALUE`, or `key=VALUE,VALUE` for several; raise `UserError` for text that Hydra would look up."""
    if len(values) == 1 and key in PATH_KEYS:
        return f"{key}={name_text(values[0])}"
    text = ",".join(map(hydra_text, values))
    if "${" in text:
        raise UserError(f"{key}={text}: text of a sweep cannot hold ${{: write it into a config file")
    return f"{key}={text}"
