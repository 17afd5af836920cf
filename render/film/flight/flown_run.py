"""The finished run that a film shows: its canvas, and the colours of its pictures.

The run may come from somebody else, and nothing is written to it. Of its record only checked values are used.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from render.canvas.store import CanvasStore
from render.config.film_schema import FilmJob
from render.config.schema import MATCH_SOURCE, Config, OutputConfig, picture_height, picture_width
from render.errors import UserError
from render.export.colour import COLOUR_KEYS, ColourAdjustment, measure_adjustment
from render.export.colour_match import colour_map, measure_canvas
from render.job.colour_reference import open_reference
from render.job.pictures import explain_damage
from render.job.reexport import exported_config
from render.job.run_directory import stored_checkpoints
from render.job.run_record import RECORD, missing_record_message, read_run, refuse_film
from render.source.source import find_picture
from render.storage.url import Place, checked_url
from render.storage.user_paths import user_path

#: Width of frames where neither the film nor its canvas says less, px.
_USUAL_WIDTH = 1920
#: Bounds of a side of a frame, px.
_MIN_SIDE, _MAX_SIDE = 16, 16_384


@dataclass(frozen=True)
class FlownRun:
    """A finished run.

    Attributes:
        place: Directory or URL of the run.
        record: Its record, checked.
        config: Config of its pictures, with the film's colours where those say something.
        canvas: Its canvas.
    """

    place: Place
    record: Mapping[str, Any]
    config: Config
    canvas: CanvasStore

    @property
    def identity(self) -> dict[str, str | None]:
        """Facts that distinguish this canvas, in these colours, from all others."""
        output = self.config.output
        colours = [f"{key}={getattr(output, key)}" for key in COLOUR_KEYS]
        match = None
        if output.match not in (None, MATCH_SOURCE):
            match = find_picture(str(output.match), "a path or sample:NAME")[1]
        return {
            "run": str(self.record["digest"]),
            "canvas": self.canvas.token,
            "colours": " ".join(colours[:2] + ([f"match={match or output.match}"] if output.match else [])),
        }

    def colours(self) -> ColourAdjustment:
        """Return the change from the canvas' colours to the pictures'; contrast and match read the whole canvas.

        Raises:
            UserError: The canvas, or the picture to match, cannot be read.
        """
        output = self.config.output
        with explain_damage():
            reference = open_reference(self.config, self.record["image_sha256"], recorded=True)
            match = None
            if reference is not None:
                match = colour_map(measure_canvas(self.canvas), reference.measure(self.canvas.shape))
            return measure_adjustment(self.canvas, output.saturation, output.contrast, match)


def open_run(job: FilmJob) -> FlownRun:
    """Return the run that `film.run` names; only its record and the metadata of its canvas are read.

    Raises:
        UserError: It is no run, it is not finished, its canvas is gone, or its colours need what may not be read unasked.
    """
    name = job.film.run
    if not name:
        raise UserError(
            f"film.of={job.film.of} needs a finished run: set film.run=DIR, such as film.run=dreams/poster-1a2b3c4d"
        )
    place = checked_url(name, "film.run") or user_path(name, "film.run")
    reading = read_run(place)
    record = reading.record
    if not record:
        raise UserError(missing_record_message(place, reading))
    refuse_film(record, f"film.run={place}")
    if record["status"] != "finished":
        raise UserError(
            f"film.run={place} is not finished (it is {str(record['status'])[:40]}): finish it first, with the command "
            "that began it"
        )
    if "image_sha256" not in record or not record.get("plan", {}).get("octaves"):
        raise UserError(f"film.run={place}: its {RECORD} says nothing of its image or octaves: it is no whole record")
    with explain_damage():
        canvas = _newest_canvas(place, str(record["digest"]))
    config = _with_colours(exported_config(record, []), job.output)
    _refuse_unasked_match(place, config, record, job.output)
    return FlownRun(place, record, config, canvas)


def frame_shape(job: FilmJob, canvas: tuple[int, int]) -> tuple[int, int]:
    """Return the even (rows, columns) px of a film's frames.

    Without `output.height` the frames have the canvas' aspect.

    Args:
        job: Config of the film.
        canvas: (rows, columns) px.

    Raises:
        UserError: A side is too small or too large for a film.
    """
    width = picture_width(job.output) or min(canvas[1], _USUAL_WIDTH)
    asked_height = picture_height(job.output)
    height = asked_height or round(width * canvas[0] / canvas[1])
    for key, side, asked in (("output.width", width, width), ("output.height", height, asked_height)):
        if not _MIN_SIDE <= side <= _MAX_SIDE:
            problem = f"{key}={side}" if asked else f"output.width={width} makes frames of {width} x {height} px"
            raise UserError(f"{problem}: frames have sides from {_MIN_SIDE} to {_MAX_SIDE:,} px")
    return height - height % 2, width - width % 2


def _newest_canvas(place: Place, digest: str) -> CanvasStore:
    """Return the canvas of a run's newest checkpoint."""
    checkpoints = stored_checkpoints(place)
    manifest = checkpoints.read()
    if manifest is None or not manifest.checkpoints:
        raise UserError(
            f"film.run={place} holds no canvas, only its record: render it again with fresh=true, or name another run"
        )
    if manifest.resume_key.digest != digest:
        raise UserError(f"film.run={place}: its canvas is that of another run than its {RECORD} describes")
    newest = manifest.checkpoints[0]
    return CanvasStore(checkpoints.path(newest), newest.token)


def _with_colours(config: Config, wanted: OutputConfig) -> Config:
    """Return a run's config with those colours that the film's config sets to other values than the usual ones."""
    usual = OutputConfig()
    changes = {key: getattr(wanted, key) for key in COLOUR_KEYS if getattr(wanted, key) != getattr(usual, key)}
    return replace(config, output=replace(config.output, **changes)) if changes else config


def _refuse_unasked_match(place: Place, config: Config, record: Mapping[str, Any], wanted: OutputConfig) -> None:
    """Raise `UserError` for a picture to match that only the record names, unless the run used that very file."""
    name = config.output.match
    if name is None or name in (MATCH_SOURCE, wanted.match):
        return
    sha256 = record.get("match_sha256")
    if sha256 and checked_url(name, "output.match") is None and find_picture(name, "a path or sample:NAME")[1] == sha256:
        return
    raise UserError(f"film.run={place} was made with output.match={name}, which is not read unasked: say output.match=FILE")
