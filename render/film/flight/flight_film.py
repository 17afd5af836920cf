"""Films of a flight over a finished canvas: `film.of=flight`."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import numpy as np

from render.canvas.store import CanvasStore
from render.config.film_schema import FilmJob
from render.config.schema import Config
from render.dreaming.resample import Pixels, resample
from render.errors import UserError
from render.export.colour import ColourAdjustment
from render.film.film_directory import LEVELS
from render.film.film_draft import FilmNeeds, FilmSurroundings
from render.film.flight.camera_path import CameraPath, View, check_views, whole_view
from render.film.flight.canvas_levels import build_levels, level_count, levels_bytes
from render.film.flight.flight_frames import IndependentFrames, thread_count
from render.film.flight.flown_run import FlownRun, frame_shape, open_run
from render.film.flight.rich_places import SMALL_SIDE, default_tour
from render.film.flight.tour_points import read_tour
from render.film.flight.view_sampling import ViewReader
from render.film.frame_maker import FrameMaker
from render.film.makers import PlaceOf
from render.film.rate import frame_count, parse_rate
from render.geometry.geometry import Interval, Rect
from render.job.pictures import explain_damage
from render.storage.url import Place
from render.system.paths import cache_directory

#: Frames a second, and seconds, of a film that says nothing else.
USUAL_RATE, USUAL_SECONDS = 24, 10.0
#: Memory in which levels are built, bytes.
_BUILDING_BYTES = 512 << 20
#: Side of the parts in which the small copy is made, px.
_SMALL_PART = 32
#: Bytes that a frame takes while it is computed, for each of its pixels, and besides them.
_BYTES_PER_PIXEL, _BYTES_PER_THREAD = 120, 160 << 20


@dataclass(frozen=True)
class FlightDraft:
    """A checked flight, as `FilmDraft` describes it.

    Attributes:
        config: Config that is recorded.
        identity: Facts of the run.
        rate: Frames a second.
        frames: Number of frames.
        shape: (rows, columns) px.
        run: The run.
        path: Path of the camera; None for a tour of rich places, which are looked for when frames are made.
        seconds: Length, s.
        bits: Value of `film.bits`.
    """

    config: Config
    identity: Mapping[str, str | None]
    rate: Fraction
    frames: int
    shape: tuple[int, int]
    run: FlownRun
    path: CameraPath | None
    seconds: float
    bits: int
    timing: None = None
    sound: None = None
    aspect: Fraction = Fraction(1)

    def needs(self) -> FilmNeeds:
        """Return the memory and disk of the levels and frames."""
        canvas = self.run.canvas.shape
        lines = [("canvas", f"{canvas[1]:,} x {canvas[0]:,} px of {self.run.place}")]
        if self.path is None:
            lines.append(("tour", "rich places, from the whole picture and back to it"))
        elif self.path.narrowest() < self.shape[1]:
            lines.append(("enlarged", f"{self.shape[1] / self.path.narrowest():.1f} times, at the narrowest point"))
        return FilmNeeds(
            memory_bytes=making_memory(self.shape),
            canvas_bytes=levels_bytes(canvas, self._levels),
            lines=lines,
        )

    @contextmanager
    def opened(self, surroundings: FilmSurroundings) -> Iterator[FrameMaker]:
        """Yield the maker of the frames, once the levels are built that it needs."""
        with opened_levels(self.run.canvas, self._levels, surroundings) as levels:
            colours = self.run.colours()
            path = self.path or default_tour(small_copy(levels[-1]), self.run.canvas.shape, self.shape, self.seconds)
            if path.narrowest() < self.shape[1]:
                surroundings.tell(
                    f"enlarged: the flight shows {self.shape[1] / path.narrowest():.1f} px for a px of the canvas"
                )
            picture = picture_of_view(ViewReader(levels, self.shape), colours)
            yield IndependentFrames(self.shape, lambda number: picture(path.view(number / float(self.rate))), self.bits)

    @property
    def _levels(self) -> int:
        canvas = self.run.canvas.shape
        widest = self.path.widest() if self.path else whole_view(canvas, self.shape[0] / self.shape[1]).width
        return level_count(widest, self.shape[1])


def draft_flight(job: FilmJob, _place_of: PlaceOf | None = None) -> FlightDraft:
    """Check a flight, and return it; nothing is written.

    The frames of a tour with points do not depend on the film's length, so it can be made longer. A tour of rich places
    fills the whole film: another length is another film.

    Raises:
        UserError: The run is none, is not finished or has no canvas; a point is bad or outside of the canvas.
    """
    run, film = open_run(job), job.film
    canvas = run.canvas.shape
    shape = frame_shape(job, canvas)
    rate = parse_rate(USUAL_RATE if film.rate is None else film.rate)
    path, seconds = None, film.seconds or USUAL_SECONDS
    # The course between the points; films of other courses have other frames.
    identity = {**run.identity, "course": "smooth"}
    if film.tour:
        path = read_tour(film.tour, canvas, shape, film.easing, film.seconds if film.loop else None)
        # One frame more than the time between the points, so that the last one is seen.
        seconds = film.seconds or path.points[-1].at + float(1 / rate)
    else:
        identity["seconds"] = f"{seconds:g}"
        _refuse_much_enlarged(canvas, shape)
    frames = frame_count(seconds, rate)
    if path is not None:
        check_views(path, [number / float(rate) for number in range(frames)], canvas, shape)
    return FlightDraft(job.job(), identity, rate, frames, shape, run, path, seconds, film.bits)


@contextmanager
def opened_levels(canvas: CanvasStore, count: int, surroundings: FilmSurroundings) -> Iterator[list[CanvasStore]]:
    """Yield a canvas and its levels, in the film's directory, or on this machine if that is in an object store."""
    place: Place = surroundings.place
    if isinstance(place, Path):
        surroundings.confirm()
        yield build_levels(canvas, count, place / LEVELS, surroundings.tell)
        return
    cache = cache_directory() / LEVELS
    cache.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=cache) as directory:
        yield build_levels(canvas, count, Path(directory), surroundings.tell)


def picture_of_view(reader: ViewReader, colours: ColourAdjustment) -> Callable[[View], Pixels]:
    """Return the function from a view to its pixels in the colours of the run's pictures."""

    def picture(view: View) -> Pixels:
        with explain_damage():
            return colours(reader.read(view))

    return picture


def small_copy(store: CanvasStore) -> Pixels:
    """Return a copy of a whole canvas, `SMALL_SIDE` px long at most: (rows, columns, 3) float32."""
    shrink = max(1.0, max(store.shape) / SMALL_SIDE)
    shape = max(1, round(store.shape[0] / shrink)), max(1, round(store.shape[1] / shrink))
    with explain_damage():
        copy = np.empty((*shape, 3), np.float32)
        for top in range(0, shape[0], _SMALL_PART):
            for left in range(0, shape[1], _SMALL_PART):
                rows = Interval(top, min(top + _SMALL_PART, shape[0]))
                columns = Interval(left, min(left + _SMALL_PART, shape[1]))
                copy[slice(*rows), slice(*columns)] = resample(store.read, store.shape, shape, Rect(rows, columns))
        return copy


def making_memory(shape: tuple[int, int]) -> int:
    """Return the most memory, bytes, that frames of (rows, columns) px take while they are computed."""
    return _BUILDING_BYTES + thread_count() * (_BYTES_PER_THREAD + shape[0] * shape[1] * _BYTES_PER_PIXEL)


def _refuse_much_enlarged(canvas: tuple[int, int], shape: tuple[int, int]) -> None:
    """Raise `UserError` if even the whole canvas has fewer pixels than the film's frames."""
    if whole_view(canvas, shape[0] / shape[1]).width < shape[1] / 4:
        raise UserError(
            f"output.width={shape[1]} enlarges a canvas of {canvas[1]} x {canvas[0]} px more than 4 times: "
            "make the film smaller"
        )
