"""Checks of a `film` section's values, and of the keys of a job that a film gives another meaning."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from render.config.film_schema import FILM_KINDS, FilmConfig, FilmJob, FlowConfig
from render.config.octave_settings import AUTO, check_octaves
from render.config.schema import Config
from render.config.validation import MAX_OCTAVES, require, validate
from render.errors import UserError

#: Longest film, s: a day.
MAX_SECONDS = 86_400
#: Kinds of films that are made of a run, and kinds that dream.
OF_RUNS, DREAMED = ("flight", "steps"), ("zoom", "footage")
_PICTURES = ("auto", "keep")
_BITS = (8, 10, 16)
_EDGES = ("reflect", "noise")
_EASINGS = ("linear", "in", "out", "in_out")
#: Most points of a path, and most canvases that are kept.
_MAX_POINTS, _MAX_KEEP = 10_000, 1000
#: Most disk for frames that are dreamed ahead, GB.
_MAX_AHEAD_GB = 1_000_000


def check_film(job: FilmJob) -> FilmJob:
    """Return the same film. Raise `UserError` for the first invalid value."""
    _check_output(job)
    check_octaves(validate(still_config(job)))
    film = job.film
    require(film.of in FILM_KINDS, "film.of", film.of, f"must be one of {', '.join(FILM_KINDS)}")
    _check_length(film)
    require(1 <= film.quality <= 100, "film.quality", film.quality, "must be from 1 to 100")
    require(film.bits in _BITS, "film.bits", film.bits, "must be 8, 10 or 16")
    require(film.edge in _EDGES, "film.edge", film.edge, f"must be {' or '.join(_EDGES)}")
    require(film.easing in _EASINGS, "film.easing", film.easing, f"must be one of {', '.join(_EASINGS)}")
    for key in ("fade", "hold"):
        _require_share(f"film.{key}", getattr(film, key))
    is_magnification = math.isfinite(film.zoom) and 0.01 <= film.zoom <= 100
    require(is_magnification, "film.zoom", film.zoom, "must be from 0.01 to 100, a magnification in a second")
    _require_point("film.pan", film.pan)
    _require_point("film.centre", film.centre)
    require(abs(film.turn) <= 3600, "film.turn", film.turn, "must be from -3600 to 3600 degrees in a second")
    require(film.pictures in _PICTURES, "film.pictures", film.pictures, f"must be {' or '.join(_PICTURES)}")
    require(1 <= film.keep <= _MAX_KEEP, "film.keep", film.keep, f"must be from 1 to {_MAX_KEEP:,}")
    is_disk = 0 <= film.ahead_gb <= _MAX_AHEAD_GB
    require(is_disk, "film.ahead_gb", film.ahead_gb, f"must be from 0 to {_MAX_AHEAD_GB:,} GB")
    _check_frame_octaves(film)
    _check_path("film.keyframes", film.keyframes)
    _check_path("film.tour", film.tour)
    _check_flow(film.flow)
    _check_kind(film)
    return job


def still_config(job: FilmJob) -> Config:
    """Return the config of a film's first frame as a picture, with as many bits as the film needs."""
    config = job.job()
    bits = 8 if job.film.bits == 8 else 16
    return replace(config, output=replace(config.output, path=None, format=None, also=[], bits=bits))


def _check_length(film: FilmConfig) -> None:
    seconds = film.seconds
    is_length = seconds is None or (math.isfinite(seconds) and 0 < seconds <= MAX_SECONDS)
    require(is_length, "film.seconds", seconds, f"must be above 0 and at most {MAX_SECONDS:,}, or null")


def _check_frame_octaves(film: FilmConfig) -> None:
    """Raise `UserError` for octaves that no frame can have; their steps are checked with the dreams."""
    count, scale = film.octaves.count, film.octaves.scale
    is_number = isinstance(count, int) and not isinstance(count, bool) and 1 <= count <= MAX_OCTAVES
    rule = f"must be auto or a whole number from 1 to {MAX_OCTAVES}"
    require(count == AUTO or is_number, "film.octaves.count", count, rule)
    require(1 < scale <= 100, "film.octaves.scale", scale, "must be above 1 and at most 100 (1.4 is usual)")


def _require_share(key: str, value: float) -> None:
    # Comparisons with NaN are false.
    require(0 <= value <= 1, key, value, "must be from 0 to 1")


def _require_point(key: str, value: list[float]) -> None:
    is_point = len(value) == 2 and all(abs(part) <= 10 for part in value)
    require(is_point, key, value, f"must be two shares of width and height, such as {key}=[0.1,0]")


def _check_path(key: str, path: list[Any]) -> None:
    """Raise `UserError` unless the points of a path are mappings with times that ascend."""
    require(len(path) <= _MAX_POINTS, key, f"{len(path):,} points", f"must be at most {_MAX_POINTS:,}")
    before = -1.0
    for position, point in enumerate(path):
        name = f"{key}[{position}]"
        if not isinstance(point, Mapping) or "at" not in point:
            raise UserError(f"{name}: must be a mapping with at (seconds) and settings, such as {{at: 2, zoom: 1.5}}")
        at = point["at"]
        is_time = isinstance(at, int | float) and not isinstance(at, bool) and 0 <= at <= MAX_SECONDS
        require(is_time, f"{name}.at", at, f"must be from 0 to {MAX_SECONDS:,} seconds")
        if at <= before:
            raise UserError(f"{name}.at={at:g} is not after {before:g}, the one before: write them in the order of time")
        before = at


def _check_flow(flow: FlowConfig) -> None:
    _require_share("film.flow.carry", flow.carry)
    tolerance, rule = flow.tolerance, "must be above 0 and at most 1000 px"
    require(0 < tolerance <= 1000, "film.flow.tolerance", tolerance, rule)
    require(0 < flow.scale <= 1, "film.flow.scale", flow.scale, "must be above 0 and at most 1")


def _check_kind(film: FilmConfig) -> None:
    """Raise `UserError` for keys that contradict the kind of film."""
    if film.of in OF_RUNS and not film.run:
        raise UserError(f"film.of={film.of} needs a finished picture: run=dreams/NAME")
    if film.of in DREAMED and film.run:
        raise UserError(f"film.run={film.run} is for flights: make film conf=flight run={film.run}")
    if film.tour and film.of != "flight":
        raise UserError(f"film.tour is for flights, and film.of={film.of}: keyframes move the camera of a zoom")
    if film.keyframes and film.of in OF_RUNS:
        raise UserError(f"film.keyframes are for dreamed films, and film.of={film.of}: a flight has film.tour")
    if film.loop and film.of in ("footage", "steps"):
        raise UserError(f"film.loop=true is for zooms and flights, and film.of={film.of}: drop it")


def _check_output(job: FilmJob) -> None:
    """Raise `UserError` for keys of pictures that mean nothing for films."""
    output = job.output
    if output.format is not None:
        raise UserError(f"output.format={output.format} is for pictures: a film has film.format, such as film.format=mp4")
    if output.also:
        raise UserError(
            "output.also is for pictures: with film.pictures=keep, make the film again with another film.format, which "
            "dreams nothing anew"
        )
    if output.panels.width_cm or output.panels.height_cm or output.bleed_mm or output.marks:
        raise UserError("output.panels, output.bleed_mm and output.marks are for prints: drop them for a film")
    if output.iiif_id is not None:
        raise UserError("output.iiif_id is for IIIF tiles: drop it for a film")
    if output.profile not in (None, "srgb"):
        raise UserError(f"output.profile={output.profile}: films are in BT.709 colours: drop it")
