"""Figures of finished dreams: clipped pixels, noise of colour, size of forms.

    python -m tests.reports.picture_figures run=DIR [run=DIR ...]
    python -m tests.reports.picture_figures SOURCE DREAM [DREAM ...]

A run's canvas is compared with its source, laid out alike. Picture files are compared with the source resampled to their
size.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from render.canvas.store import CanvasStore
from render.config.compose import recorded_config
from render.config.schema import SourceConfig
from render.dreaming.resample import Pixels, resample_array
from render.errors import RenderError, UserError
from render.geometry.geometry import whole
from render.job.recorded_source import reopen_source
from render.job.run_directory import stored_checkpoints
from render.job.run_record import missing_record_message, read_run
from render.source.photo import read_photo
from tests.benchmarks.table import Table
from tests.support.picture_measures import chroma_noise, clipped_share, coarse_share, largest_form


def of_run(run: Path) -> tuple[Pixels, Pixels]:
    """Return the source and the newest canvas of a run; raise `UserError` if one of them is gone."""
    reading = read_run(run)
    if not reading.record:
        raise UserError(missing_record_message(run, reading))
    checkpoints = stored_checkpoints(run)
    manifest = checkpoints.read()
    if manifest is None or not manifest.checkpoints:
        raise UserError(f"run={run} holds no canvas yet")
    newest = manifest.checkpoints[0]
    canvas = CanvasStore(checkpoints.path(newest), newest.token)
    config = recorded_config(reading.record["config"], [], ())
    with tempfile.TemporaryDirectory() as levels:
        source = reopen_source(config, reading.record.get("image_sha256"), Path(levels))
        if source is None:
            raise UserError(f"run={run}: its image {config.image} is gone or has changed")
        source.prepare(canvas.shape)
        return source.at(canvas.shape, whole(*canvas.shape)), canvas.read(canvas.rect)


def pairs(words: list[str]) -> Iterator[tuple[str, Pixels, Pixels]]:
    """Yield name, source and dream of every word; raise `UserError` for what cannot be read."""
    runs = [word.removeprefix("run=") for word in words if word.startswith("run=")]
    paths = [word for word in words if not word.startswith("run=")]
    if len(paths) == 1 or not words:
        raise UserError("name run=DIR, or the file of a source and those of its dreams")
    for run in runs:
        yield run, *of_run(Path(run))
    if paths:
        source = read_photo(Path(paths[0]), SourceConfig())
        for path in paths[1:]:
            dream = read_photo(Path(path), SourceConfig())
            shape = dream.shape[0], dream.shape[1]
            yield path, np.clip(source if source.shape == dream.shape else resample_array(source, shape), 0, 255), dream


def figures(source: Pixels, dream: Pixels) -> dict[str, float]:
    """Return the figures of a dream by column."""
    change, form = dream - source, largest_form(dream - source)
    return {
        "width px": dream.shape[1],
        "clipped in source %": 100 * clipped_share(source),
        "in dream %": 100 * clipped_share(dream),
        "noise of colour": chroma_noise(change),
        "coarse %": 100 * coarse_share(change),
        "largest form px": form,
        "/ width": form / dream.shape[1],
        "mean change": float(np.abs(change).mean()),
    }


def main(words: list[str]) -> int:
    """Print the table; return the exit code."""
    try:
        rows: list[dict[str, str | float]] = [{"dream": name, **figures(*pair)} for name, *pair in pairs(words)]
    except RenderError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(Table("figures", "figures of dreams", tuple(rows[0]), rows).text())
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
