"""Maker of a dreamed film's frames, on the workers of a farm."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pyvips

from render.dreaming.objectives import Objective
from render.errors import UserError
from render.export.colour import measure_adjustment
from render.export.colour_match import colour_map, measure_canvas
from render.export.export import Style, styled_image
from render.export.picture import unwritable
from render.farm.checkpoint import ResumeKey
from render.farm.conductor import BlockOptions, Conductor, Saving
from render.farm.events import Event
from render.farm.remote import Workers
from render.farm.worker.interface import RemoteProcess
from render.film.dreamed.canvases import FrameCanvas, FrameCanvases
from render.film.dreamed.colours import FilmColours, measure_spread, read_colours, write_colours
from render.film.dreamed.dreamed_film import DreamedFilm
from render.film.dreamed.frame_plans import frame_plan
from render.film.dreamed.frame_sources import frame_seed
from render.film.film_dreams import FilmDreams
from render.job.job import Job
from render.job.pictures import explain_damage
from render.planning.plan import Plan
from render.source.warped import FrameSource
from render.storage.local import replacing
from render.system.watched import in_thread

log = logging.getLogger(__name__)

#: Receiver of what happens within a frame: its number, the event, and the conductor, which has previews and the history.
OnEvent = Callable[[int, Event, Conductor], None]


@dataclass(frozen=True)
class DreamedFrame:
    """A dreamed frame: see `MadeFrame`."""

    number: int
    canvas: FrameCanvas
    shape: tuple[int, int]
    style: Style

    def write(self, path: Path) -> None:
        """Write the frame's picture as a lossless PNG, atomically; raise `UserError` if that fails."""
        rows, columns = self.shape
        with explain_damage(), styled_image(self.canvas.open(), self.style, "png") as picture:
            image = picture.image.crop(0, 0, columns, rows)
            try:
                with replacing(path) as file:
                    # Lossless at any compression; the picture is read once and then removed.
                    in_thread(lambda: image.pngsave(os.fsencode(file.name), compression=1, keep="none"))
                    picture.check()
            except (OSError, ValueError, pyvips.Error) as error:
                picture.check()
                raise unwritable(path, error, "png") from None


class DreamedFrames:
    """Maker of a film's frames: see `FrameMaker`.

    The first frame is the picture of the film's job. Every later one is dreamed on what the camera sees of the canvas
    before, which workers read from its checkpoint. Each frame is a run of its own on the same workers.
    """

    def __init__(
        self,
        film: DreamedFilm,
        job: Job,
        later: Plan,
        canvases: FrameCanvases,
        digest: str,
        on_event: OnEvent = lambda _frame, _event, _conductor: None,
        tell: Callable[[str], None] = log.info,
    ) -> None:
        """Store the parts; nothing is dreamed yet.

        Args:
            film: The film.
            job: Job of its first frame, whose workers know all objectives.
            later: Plan of later frames.
            canvases: Where canvases are kept.
            digest: Digest of the film.
            on_event: Receiver of what happens within a frame.
            tell: Called with lines about how a large picture is read.
        """
        self._film = film
        self._job = job
        self._later = later
        self._canvases = canvases
        self._digest = digest
        self._on_event = on_event
        self._tell = tell

    @property
    def shape(self) -> tuple[int, int]:
        """(rows, columns) px of every frame, both even: those of the canvas without a last odd row or column."""
        return even_shape(self._film.sources.shape)

    def compile(self) -> None:
        """Have the first worker compile the kernels of all frames, or load them from the cache.

        Raises:
            WorkersLost: The worker is gone.
        """
        workers = Workers(self._job.executor)
        dreams = FilmDreams(self._film.resolved, self._job.plan, self._later, self._film.schedule.all_stages())
        for window in dreams.windows():
            workers.run([0], RemoteProcess.window_bytes, *window)

    def make(self, first: int, last: int) -> Iterator[DreamedFrame]:
        """Yield the frames from `first` to before `last`: see `FrameMaker.make`."""
        colours = self._colours() if first > 0 else None
        before = self._canvas_before(first) if first > 0 and not self._is_finished(first) else None
        for number in range(first, last):
            canvas = self._finished(number)
            if canvas is None:
                assert number == 0 or (before is not None and colours is not None)
                canvas = self._dream(number, before, colours)
            if colours is None:
                colours = self._measured(canvas)
            self._canvases.remove_before(number - self._film.film.keep + 1, but=0 if self._film.sources.loop else None)
            before = canvas
            yield DreamedFrame(number, canvas, self.shape, self._style(colours))

    def _is_finished(self, number: int) -> bool:
        return self._finished(number) is not None

    def _finished(self, number: int) -> FrameCanvas | None:
        """Return the canvas of a frame if it is done."""
        return self._canvases.finished(number, self._plan(number)[0].octaves)

    def _plan(self, number: int) -> tuple[Plan, Sequence[Objective]]:
        """Return a frame's plan, and all objectives with its weights."""
        if number == 0:
            return self._job.plan, self._film.schedule.objectives
        stages, objectives = self._film.frame(number)
        return frame_plan(self._later, stages, objectives), objectives

    def _canvas_before(self, number: int) -> FrameCanvas:
        """Return the canvas before a frame; raise `UserError` if it is gone."""
        canvas = self._finished(number - 1)
        if canvas is None:
            raise UserError(
                f"frame {number} of the film is dreamed on the canvas of frame {number - 1}, which is gone from "
                f"{self._canvases.place}: restore it, or fresh=true starts the film over"
            )
        return canvas

    def _colours(self) -> FilmColours:
        """Return the colours of the first frame, which was made before; raise `UserError` if they are gone."""
        colours = read_colours(self._canvases.place, self._digest)
        if colours is not None:
            return colours
        canvas = self._finished(0)
        if canvas is None:
            raise UserError(f"the film's colours are gone from {self._canvases.place}: fresh=true starts the film over")
        return self._measured(canvas)

    def _measured(self, canvas: FrameCanvas) -> FilmColours:
        """Measure the colours of the first frame, and write them beside the canvases."""
        resolved = self._film.resolved
        output, reference = resolved.config.output, resolved.reference
        with explain_damage():
            stored = canvas.open()
            match = None
            if reference is not None:
                match = colour_map(measure_canvas(stored), reference.measure(stored.shape))
            adjustment = measure_adjustment(stored, output.saturation, output.contrast, match)
            colours = FilmColours(measure_spread(stored), adjustment)
        write_colours(self._canvases.place, colours, self._digest)
        return colours

    def _style(self, colours: FilmColours) -> Style:
        return Style(bits=8 if self._film.film.bits == 8 else 16, colour=colours.adjustment)

    def _dream(self, number: int, before: FrameCanvas | None, colours: FilmColours | None) -> FrameCanvas:
        """Dream a frame, or continue it, and return its canvas."""
        plan, objectives = self._plan(number)
        change = None
        if before is not None and colours is not None:
            change = self._source(number, before, colours)
        conductor = self._conductor(number, plan, objectives, change)
        for event in conductor.run(frame_seed(self._film.resolved.seed, number)):
            self._on_event(number, event, conductor)
        conductor.release()
        self._canvases.checkpoints(number).keep_newest()
        canvas = self._canvases.finished(number, plan.octaves)
        assert canvas is not None, "the last octave is saved at its end"
        return canvas

    def _source(self, number: int, before: FrameCanvas, colours: FilmColours) -> FrameSource:
        """Return the source of a frame."""
        loop = self._film.sources.loop
        first = self._canvas_of_first() if loop is not None and loop.left(number) is not None else None
        settings = self._film.timeline.settings(number)
        with explain_damage():
            spread = measure_spread(before.open()) if settings.hold else colours.spread
        return self._film.sources.source(number, settings, before, (spread, colours.spread), first)

    def _canvas_of_first(self) -> FrameCanvas:
        canvas = self._finished(0)
        if canvas is None:
            raise UserError(
                f"a loop ends at its first frame, whose canvas is gone from {self._canvases.place}: fresh=true starts over"
            )
        return canvas

    def _conductor(self, number: int, plan: Plan, objectives: Sequence[Objective], change: FrameSource | None) -> Conductor:
        """Return a conductor for one frame, which saves it in the frame's own directory."""
        job, resolved = self._job, self._film.resolved

        def prepare_source(shape: tuple[int, int]) -> None:
            """Prepare what an octave reads of the film's picture."""
            if change is None:
                resolved.source.prepare(shape, self._tell)
            elif change.fade:
                resolved.source.prepare(change.picture_shape(shape), self._tell)

        key = ResumeKey(
            self._digest,
            job.loaded.sha256,
            tuple(octave.grid.core_shape for octave in plan.octaves),
            job.resume_key.threads,
        )
        return Conductor(
            plan,
            job.loaded.architecture,
            objectives,
            job.executor,
            Saving(self._canvases.checkpoints(number), resolved.checkpoint_interval, key),
            BlockOptions(resolved.scratch if plan.scratch_bytes else None, None, prepare_source, change),
        )


def even_shape(shape: tuple[int, int]) -> tuple[int, int]:
    """Return (rows, columns) px without a last odd row or column; a side of 1 px stays."""
    rows, columns = (max(1, length // 2 * 2) for length in shape)
    return rows, columns
