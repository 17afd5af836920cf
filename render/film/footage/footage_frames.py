"""Maker of dreamed footage's frames, on the workers of a farm."""

from __future__ import annotations

import re
import secrets
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

from render.canvas import store
from render.canvas.store import CanvasStore
from render.dreaming.objectives import Objective
from render.dreaming.resample import Pixels
from render.errors import StorageError, UserError
from render.film.dreamed.canvases import FrameCanvas
from render.film.dreamed.dreamed_film import DreamedFilm
from render.film.dreamed.dreamed_frames import DreamedFrame, DreamedFrames
from render.film.dreamed.frame_sources import frame_seed
from render.film.footage.clip import Clip, Shots
from render.film.footage.frame_inputs import FrameInput, FrameInputs
from render.geometry.affine import Affine
from render.geometry.geometry import BOUNDARY_MODES, CHUNK, Rect, whole
from render.job.pictures import explain_damage
from render.planning.plan import Plan
from render.source.photo import PhotoSource
from render.source.warped import FrameSource, WarpedCanvas
from render.storage.opening import open_storage
from render.storage.url import joined
from render.system import interrupts

_START_NAME = re.compile(r"start-\d{6,9}")


class FootageFrames(DreamedFrames):
    """Maker of dreamed footage's frames: see `FrameMaker`.

    The first frame of a shot is dreamed as a picture of the film's job is. Every other one begins with the footage and what
    dreaming added to the frame before, carried along the motion, which this process writes where workers read it.
    """

    def __init__(self, clip: Clip, film: DreamedFilm, *parts: Any) -> None:
        """Store the parts; nothing is read or dreamed yet.

        Args:
            clip: The footage, of which the source of the film's job is a frame.
            film: The film.
            parts: The further arguments of `DreamedFrames`.
        """
        super().__init__(film, *parts)
        source = film.resolved.source
        assert isinstance(source, PhotoSource)
        self._shots = Shots(clip, finds_cuts=film.film.flow.cuts)
        self._inputs = FrameInputs(clip, self._shots, source, film.sources.shape, film.film.flow)

    def make(self, first: int, last: int) -> Iterator[DreamedFrame]:
        """Yield the frames from `first` to before `last`: see `FrameMaker.make`."""
        if first >= last:
            return
        self._remove_starts()
        dreamed = self.dreamed(first, lambda number: number < last)
        yield from self._in_pictures(first, (canvas for _, canvas in dreamed))
        # Dreamed ahead by more workers, for a longer film.
        self._canvases.remove_from(last)

    def dreamed(self, first: int, goes_on: Callable[[int], bool]) -> Iterator[tuple[int, FrameCanvas]]:
        """Yield the numbers and canvases of frames, dreamed if they are not there yet.

        Args:
            first: Number of the first frame. If it begins no shot, the canvas of the frame before is on disk.
            goes_on: Returns whether to go on with a frame, asked for each but the first.
        """
        before: FrameCanvas | None = None
        for frame in self._inputs.from_frame(first):
            canvas = self._finished(frame.number)
            if canvas is None:
                if before is None and frame.carrier is not None:
                    before = self._canvas_before(frame.number)
                canvas = self._dream_frame(frame, before)
            before = canvas
            yield frame.number, canvas
            if not goes_on(frame.number + 1):
                return

    def _in_pictures(self, first: int, canvases: Iterable[FrameCanvas]) -> Iterator[DreamedFrame]:
        """Yield frames with their pictures' colours, and remove the canvases of those before that are not kept."""
        colours = self._colours() if first > 0 else None
        for number, canvas in enumerate(canvases, first):
            if colours is None:
                colours = self._measured(canvas)
            self._canvases.remove_before(number - self._film.film.keep + 1)
            yield DreamedFrame(number, canvas, self.shape, self._style(colours))

    def _plan(self, number: int) -> tuple[Plan, Sequence[Objective]]:
        """Return a frame's plan, and all objectives with its weights: where a shot begins, those of a picture."""
        return super()._plan(0 if self._shots.begins(number) else number)

    def _dream_frame(self, frame: FrameInput, before: FrameCanvas | None) -> FrameCanvas:
        """Dream a frame, or continue it, and return its canvas."""
        plan, objectives = self._plan(frame.number)
        # The first frame is the very picture that the job makes.
        change = None if frame.number == 0 else self._write_start(frame, before)
        conductor = self._conductor(frame.number, plan, objectives, change)
        for event in conductor.run(frame_seed(self._film.resolved.seed, frame.number)):
            self._on_event(frame.number, event, conductor)
        conductor.release()
        self._canvases.checkpoints(frame.number).keep_newest()
        open_storage(self._canvases.place, patient=True).remove_tree(_start_name(frame.number))
        canvas = self._canvases.finished(frame.number, plan.octaves)
        assert canvas is not None, "the last octave is saved at its end"
        return canvas

    def _write_start(self, frame: FrameInput, before: FrameCanvas | None) -> FrameSource:
        """Write the canvas from which a frame is dreamed, and return it as the source of the frame's run.

        It is written again after an interruption, with the same pixels.
        """
        shape, token = self._film.sources.shape, secrets.token_hex(8)
        place = joined(self._canvases.place, _start_name(frame.number))
        try:
            store.create(place, shape, token)
            start = CanvasStore(place, token, mode="r+")
            with explain_damage():
                canvas = None if frame.carrier is None or before is None else before.open()
                for rect in whole(*shape).bands(multiple=CHUNK):
                    interrupts.check()
                    start.write(rect, _start_pixels(frame, canvas, shape, rect))
        except StorageError:
            raise
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or error
            raise UserError(
                f"{place} cannot be written ({reason}): free some space, and the same command goes on from this frame"
            ) from None
        return FrameSource(
            WarpedCanvas(place, token, shape, Affine()), BOUNDARY_MODES[self._film.resolved.config.boundary.mode]
        )

    def _remove_starts(self) -> None:
        """Remove the starts of frames that an earlier run left: they are written anew."""
        storage = open_storage(self._canvases.place, patient=True)
        for name in storage.children():
            if _START_NAME.fullmatch(name):
                storage.remove_tree(name)


def _start_pixels(frame: FrameInput, canvas: CanvasStore | None, shape: tuple[int, int], rect: Rect) -> Pixels:
    """Return a rectangle of the canvas from which a frame is dreamed; `canvas` is that of the frame before, if carried."""

    def footage(part: Rect) -> Pixels:
        """Read the frame's footage."""
        return frame.picture.at(shape, part)

    def detail(part: Rect) -> Pixels:
        """Read what dreaming added to the frame before."""
        assert canvas is not None and frame.before is not None
        return canvas.read(part) - frame.before.at(shape, part)

    if canvas is None or frame.carrier is None:
        return footage(rect)
    return frame.carrier.start(rect, footage, detail)


def _start_name(number: int) -> str:
    """Return the name of the canvas from which a frame is dreamed."""
    return f"start-{number:06}"
