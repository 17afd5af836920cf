"""Films of a run's growth: `film.of=steps`. Each octave's preview fades into the next, and the last into the picture.

A run keeps one small picture of each octave, as it was at the octave's end, and the finished canvas. Single steps are not
kept, so what lies between two octaves is a cross-fade.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path

import numpy as np
from PIL import Image

from render.config.film_schema import FilmJob
from render.config.schema import Config
from render.dreaming.resample import Pixels, resample_window
from render.errors import UserError
from render.film.film_draft import FilmNeeds, FilmSurroundings
from render.film.flight.camera_path import View, whole_view
from render.film.flight.canvas_levels import level_count, levels_bytes
from render.film.flight.flight_film import USUAL_RATE, making_memory, opened_levels, picture_of_view
from render.film.flight.flight_frames import IndependentFrames
from render.film.flight.flown_run import FlownRun, frame_shape, open_run
from render.film.flight.view_sampling import ViewReader
from render.film.frame_maker import FrameMaker
from render.film.makers import PlaceOf
from render.film.rate import frame_count, parse_rate
from render.geometry.geometry import Rect, whole
from render.geometry.source_window import SourceWindow, Span
from render.job.targets import PREVIEWS
from render.storage.local import read_record_file
from render.storage.opening import open_storage
from render.storage.url import Place

#: Seconds of a stage: an octave, or the picture at the end.
SECONDS_PER_STAGE = 1.5
#: Share of a stage's time in which it fades into the next.
_FADE_SHARE = 0.5
#: Largest preview that is read, bytes and px.
_MAX_PREVIEW_BYTES, _MAX_PREVIEW_PIXELS = 64 << 20, 1 << 24


@dataclass(frozen=True)
class GrowthDraft:
    """A checked film of growth, as `FilmDraft` describes it.

    Attributes:
        config: Config that is recorded.
        identity: Facts of the run and its previews.
        rate: Frames a second.
        frames: Number of frames.
        shape: (rows, columns) px.
        run: The run.
        previews: Pictures of the octaves in order, (rows, columns, 3) uint8.
        seconds: Length, s.
        bits: Value of `film.bits`.
    """

    config: Config
    identity: Mapping[str, str | None]
    rate: Fraction
    frames: int
    shape: tuple[int, int]
    run: FlownRun
    previews: Sequence[np.ndarray] = field(repr=False)
    seconds: float
    bits: int
    timing: None = None
    sound: None = None
    aspect: Fraction = Fraction(1)

    def needs(self) -> FilmNeeds:
        """Return the memory and disk of the pictures that fade into each other."""
        canvas = self.run.canvas.shape
        stages = (len(self.previews) + 1) * self.shape[0] * self.shape[1] * 12
        text = f"previews of {len(self.previews)} octaves and the picture, cross-faded: single steps are not kept"
        return FilmNeeds(making_memory(self.shape) + stages, levels_bytes(canvas, self._levels), lines=[("growth", text)])

    @contextmanager
    def opened(self, surroundings: FilmSurroundings) -> Iterator[FrameMaker]:
        """Yield the maker of the frames, once the levels of the canvas are built."""
        with opened_levels(self.run.canvas, self._levels, surroundings) as levels:
            colours = self.run.colours()
            view = self._view
            stages = [colours(preview_view(preview, view, self.run.canvas.shape, self.shape)) for preview in self.previews]
            stages.append(picture_of_view(ViewReader(levels, self.shape), colours)(view))
            for stage in stages:
                np.clip(stage, 0, 255, out=stage)

            def picture(number: int) -> Pixels:
                return cross_fade(stages, number / float(self.rate) / self.seconds)

            yield IndependentFrames(self.shape, picture, self.bits)

    @property
    def _view(self) -> View:
        return whole_view(self.run.canvas.shape, self.shape[0] / self.shape[1])

    @property
    def _levels(self) -> int:
        return level_count(self._view.width, self.shape[1])


def draft_growth(job: FilmJob, _place_of: PlaceOf | None = None) -> GrowthDraft:
    """Check a film of a run's growth, and return it; nothing is written. Another length is another film.

    Raises:
        UserError: The run is none, is not finished, or has lost its canvas or previews.
    """
    run = open_run(job)
    previews, digest = read_previews(run)
    rate = parse_rate(USUAL_RATE if job.film.rate is None else job.film.rate)
    seconds = job.film.seconds or SECONDS_PER_STAGE * (len(previews) + 1)
    identity = {**run.identity, "previews": digest, "seconds": f"{seconds:g}"}
    shape = frame_shape(job, run.canvas.shape)
    return GrowthDraft(job.job(), identity, rate, frame_count(seconds, rate), shape, run, previews, seconds, job.film.bits)


def read_previews(run: FlownRun) -> tuple[list[np.ndarray], str]:
    """Return the previews of a run's octaves, (rows, columns, 3) uint8 each, and a digest of their files.

    Raises:
        UserError: A preview is gone, or is no small PNG.
    """
    previews, digest = [], hashlib.sha256()
    for number in range(1, len(run.record["plan"]["octaves"]) + 1):
        name = f"{PREVIEWS}/octave-{number}.png"
        try:
            content = _content(run.place, name)
            previews.append(_decoded(content))
        except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
            reason = "it is gone" if isinstance(error, FileNotFoundError) else (str(error).splitlines() or ["damaged"])[0]
            raise UserError(
                f"film.run={run.place}: its preview {name} cannot be read ({reason[:200]}); film.of=flight needs none"
            ) from None
        digest.update(content)
    return previews, digest.hexdigest()


def preview_view(preview: np.ndarray, view: View, canvas: tuple[int, int], frame: tuple[int, int]) -> Pixels:
    """Return an upright view of a canvas as a preview shows it: (rows, columns, 3) float32 of `frame`.

    Args:
        preview: (rows, columns, 3) uint8, the whole canvas small.
        view: The view, px of the canvas.
        canvas: (rows, columns) px.
        frame: (rows, columns) px.
    """
    pixels = preview.astype(np.float32)
    height = view.width / frame[1] * frame[0]
    spans = []
    for length, side, centre, extent in zip(pixels.shape[:2], canvas, (view.y, view.x), (height, view.width), strict=True):
        scale = length / side
        spans.append(Span(length, max(0.0, centre - extent / 2) * scale, min(extent, side) * scale))

    def read(rect: Rect) -> Pixels:
        return pixels[slice(*rect.rows), slice(*rect.columns)]

    return resample_window(read, SourceWindow(*spans), frame, whole(*frame))


def cross_fade(stages: Sequence[Pixels], share: float) -> Pixels:
    """Return the picture at a share of the film's time: a stage, or two of them mixed as one fades into the next.

    Args:
        stages: Pictures of one shape, float32, each shown as long as the others.
        share: 0 to 1.
    """
    position = min(max(share, 0.0), 1.0) * len(stages)
    stage = min(int(position), len(stages) - 1)
    progress = (position - stage - (1 - _FADE_SHARE)) / _FADE_SHARE
    if progress <= 0 or stage == len(stages) - 1:
        return stages[stage]
    weight = np.float32(progress * progress * (3 - 2 * progress))
    return stages[stage] * (1 - weight) + stages[stage + 1] * weight


def _content(place: Place, name: str) -> bytes:
    """Return the bytes of a preview."""
    if isinstance(place, Path):
        content = read_record_file(place / name)
    else:
        storage = open_storage(place)
        info = storage.info(name)
        if info is not None and info.size > _MAX_PREVIEW_BYTES:
            raise ValueError("it is too large")
        content = storage.load(name)[0]
    if len(content) > _MAX_PREVIEW_BYTES:
        raise ValueError("it is too large")
    return content


def _decoded(content: bytes) -> np.ndarray:
    """Return the pixels of a PNG, (rows, columns, 3) uint8; raise ValueError or OSError if it is none, or is large."""
    with Image.open(io.BytesIO(content), formats=("PNG",)) as image:
        if image.width * image.height > _MAX_PREVIEW_PIXELS:
            raise ValueError(f"it has {image.width} x {image.height} px")
        return np.asarray(image.convert("RGB"))
