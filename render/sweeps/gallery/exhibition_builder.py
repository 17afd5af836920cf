"""Builder of the content of contact sheet and gallery: axes, and the outcome of each point."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from render.config.film_schema import FilmJob
from render.config.film_validation import OF_RUNS
from render.config.hydra_text import hydra_text
from render.config.sweep_kinds import FILM_SWEEP
from render.pages.zoom_page import setting_text
from render.sweeps.axes.definition import Lineage, SweepDefinition
from render.sweeps.gallery.exhibition import Exhibition, ShownPoint, SweepProgress
from render.sweeps.gallery.favourite_facts import axis_ranges, point_origins, shared_words
from render.sweeps.gallery.point_commands import favourites_larger, point_again, point_larger
from render.sweeps.monitor.board import Board
from render.sweeps.monitor.forecast import Forecast
from render.sweeps.rendering.drafting import DraftedPoint, RefusedPoint
from render.sweeps.rendering.point_kinds import ShownFiles, point_files
from render.system.version import __version__


def build_exhibition(
    definition: SweepDefinition,
    points: Sequence[DraftedPoint | RefusedPoint],
    board: Board,
    sweep_directory: Path,
    command: str,
    interval: float = 0.0,
) -> Exhibition:
    """Return the content of contact sheet and gallery for the current state of a sweep.

    Args:
        definition: The sweep.
        points: Its points, in the order of the grid.
        board: Their states.
        sweep_directory: The sweep's directory, whose name is the title.
        command: The command that makes the sweep again.
        interval: Seconds after which this is built again while the command runs.
    """
    rows, columns = definition.table_axes()
    drafted = [point for point in points if isinstance(point, DraftedPoint)]
    first = drafted[0] if drafted else None
    prints = favourites_larger([(point.point.words, point.config, point.size) for point in drafted])
    print_words = {point.point.number: words for point, words in zip(drafted, prints.words, strict=True)}
    shown_points = [
        _shown_point(point, board, sweep_directory, print_words.get(point.point.number, ())) for point in points
    ]
    lineage = definition.lineage
    origins = point_origins(definition, [point.point.value_indices for point in points])
    return Exhibition(
        sweep_directory.name,
        definition.axes,
        tuple(replace(point, parents=parents) for point, parents in zip(shown_points, origins, strict=True)),
        rows,
        columns,
        (*_shared_settings(definition, first), *_lineage_settings(lineage), ("program", f"version {__version__}")),
        command,
        prints.command if drafted else "",
        shared_words(definition),
        axis_ranges(definition),
        lineage.generation if lineage else 0,
        lineage.parents if lineage else (),
        _progress(board, interval),
        has_films=definition.schema is FILM_SWEEP,
    )


def _progress(board: Board, interval: float) -> SweepProgress | None:
    """Return the progress of a sweep's command; None before it begins."""
    if board.status is None:
        return None
    now = time.time()
    forecast = Forecast(board, now)
    return SweepProgress(board.status, forecast.share, board.counts.running, forecast.seconds_left, now, interval)


def _lineage_settings(lineage: Lineage | None) -> list[tuple[str, str]]:
    """Return (name, text) of the origin of a bred sweep."""
    if lineage is None:
        return []
    count = len(lineage.parents)
    parents_text = f"{count} favourite{'' if count == 1 else 's'} in {lineage.favourites}"
    return [("generation", f"{lineage.generation}, bred from {parents_text}")]


def _shared_settings(definition: SweepDefinition, first: DraftedPoint | None) -> list[tuple[str, str]]:
    """Return (name, text) of the settings that all points share.

    They are picture, network, objective, size, octaves and step size, without those that are axes.
    """
    if first is None:
        return []
    config, rows, columns = first.config, *first.size
    settings = {
        "image": ("image", config.image),
        "model": ("network", config.model.name),
        "objective": ("objective", hydra_text(config.objective.terms)),
        "output": ("size", f"{columns} x {rows} px"),
        "octaves": ("octaves", f"{config.octaves.count} x {setting_text(config.octaves.steps)} steps"),
        "step_size": ("step size", setting_text(config.step_size)),
    }
    if isinstance(config, FilmJob):
        if config.film.of in OF_RUNS:
            # The run has been dreamed: what the film's config says of dreams means nothing.
            settings = {"output": settings["output"]}
        settings |= _film_settings(config)
    swept_keys = {word.partition("=")[0] for axis in definition.axes for value in axis.values for word in value.words}
    swept_sections = swept_keys | {key.partition(".")[0] for key in swept_keys}
    if "image" in swept_sections:
        swept_sections.add("output")
    if config.objective.terms is None:
        swept_sections.add("objective")
    return [pair for section, pair in settings.items() if section not in swept_sections]


def _film_settings(job: FilmJob) -> dict[str, tuple[str, str]]:
    """Return (name, text) of what films show and how long they are, by the keys that set it."""
    film = job.film
    settings = {"film.of": ("film", film.of), "film.run": ("of", film.run or ""), "film.seconds": ("length", "")}
    if film.seconds is not None:
        settings["film.seconds"] = ("length", f"{film.seconds:g} s")
    return {key: pair for key, pair in settings.items() if pair[1]}


def _shown_point(
    point: DraftedPoint | RefusedPoint, board: Board, sweep_directory: Path, favourite_words: tuple[str, ...]
) -> ShownPoint:
    """Return a point as it is shown, with its files if it is done."""
    value_indices, words = point.point.value_indices, point.point.words
    if isinstance(point, RefusedPoint):
        return ShownPoint(value_indices, "failed", point.reason, "", None, None, None, None, (0, 0), 0.0, words, "", "")
    status = board.point_statuses[point.point.number]
    files = ShownFiles()
    if status.state == "done":
        files = point_files(point.config, sweep_directory / point.directory, sweep_directory)
    return ShownPoint(
        value_indices,
        "waiting" if status.state == "running" else status.state,
        status.reason if status.state == "failed" else "",
        point.directory,
        files.picture,
        files.large,
        files.thumbnail,
        files.zoom,
        point.size,
        # Points of earlier commands have their recorded time.
        status.seconds or point.seconds,
        words,
        point_again(point.config),
        point_larger(point.config, point.size),
        favourite_words,
        motion=files.motion,
        film=files.film,
    )
