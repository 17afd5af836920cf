"""Tiny dreamed footage on workers in this process, with a digest for every frame's canvas."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path

import numpy as np

from render.config.compose import load
from render.config.film_schema import FilmJob
from render.config.root_kinds import FILM
from render.farm.conductor import Conductor
from render.farm.events import Event
from render.farm.farms import Farm
from render.film.dreamed.dreamed_film import DreamedFilm, dreamed_film
from render.film.film_draft import FilmSurroundings
from render.film.footage.shot_frames import opened_footage
from render.job.resolve import resolve
from render.networks import weights
from render.source.photo import PhotoSource
from tests.film.footage.clips import Frame
from tests.support.film_on_farm import inline_farm

TINY = (
    "octaves.count=2",
    "octaves.steps=2",
    "objective.terms=[mixed0]",
    "tiles.size=32",
    "film.of=footage",
    "film.octaves.steps=2",
)
DIGEST = "0" * 64


@dataclass(frozen=True)
class ArrayClip:
    """A clip whose frames are held in memory: see `Clip`."""

    pictures: Sequence[Frame]

    def frames(self, first: int = 0) -> Iterator[Frame]:
        yield from self.pictures[first:]


@dataclass
class TinyFootage:
    """Dreamed footage of the words `TINY` and more, in a directory."""

    directory: Path
    clip: Sequence[Frame]
    words: tuple[str, ...] = ()
    #: Digest of every frame's canvas, and the pixels, as far as they were made.
    canvases: dict[int, str] = field(default_factory=dict)
    pixels: dict[int, np.ndarray] = field(default_factory=dict)
    #: Numbers of frames that were ahead, as they were told.
    ahead: list[int] = field(default_factory=list)

    def film(self) -> DreamedFilm:
        words = [*TINY, "image=sample:chelsea", f"output.dir={self.directory / 'film'}", *self.words]
        height, width = self.clip[0].shape[:2]
        if not any(word.startswith("output.width=") for word in words):
            words += [f"output.width={width}", f"output.height={height}"]
        job = load(FILM, "preview", words)
        assert isinstance(job, FilmJob)
        resolved = resolve(job.job(), lambda *_: PhotoSource(self.clip[0].astype(np.float32), DIGEST))
        return dreamed_film(job, resolved, Fraction(24), len(self.clip))

    def make(
        self,
        workers: int = 1,
        first: int = 0,
        last: int | None = None,
        watch: Callable[[int, Event, Conductor], None] = lambda _frame, _event, _conductor: None,
        *,
        ahead: int = 0,
        farm: Farm | None = None,
    ) -> dict[int, str]:
        """Make frames and their pictures, at most `ahead` before their turn; return the digests of all canvases so far."""
        (self.directory / "pictures").mkdir(parents=True, exist_ok=True)
        film = self.film()
        surroundings = FilmSurroundings(
            (self.directory / "film").absolute(), DIGEST, time.perf_counter(), on_event=watch,
            farm=inline_farm(workers) if farm is None else farm, on_ahead=self.ahead.append,
        )  # fmt: skip
        loaded = weights.load(film.resolved.network.name)
        with opened_footage(ArrayClip(self.clip), film, surroundings, ahead, loaded) as maker:
            for made in maker.make(first, len(self.clip) if last is None else last):
                canvas = made.canvas.open()
                pixels = canvas.read(canvas.rect)
                assert np.isfinite(pixels).all() and pixels.min() >= 0 and pixels.max() <= 255
                self.pixels[made.number] = pixels
                self.canvases[made.number] = hashlib.sha256(pixels.tobytes()).hexdigest()
                made.write(self.directory / "pictures" / f"{made.number:06}.png")
        return self.canvases
