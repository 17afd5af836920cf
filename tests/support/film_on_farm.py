"""Films as tests make them: tiny, on workers in this process, with a digest for every frame's canvas."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from fractions import Fraction
from functools import cache
from pathlib import Path

import numpy as np

from render.config.compose import load
from render.config.film_schema import FilmJob
from render.config.root_kinds import FILM
from render.farm.conductor import Conductor
from render.farm.events import Event
from render.farm.farms import Farm, InlineFarm
from render.film.dreamed.dreamed_film import DreamedFilm, dreamed_film
from render.film.dreamed.film_farm import frames_in
from render.film.film_draft import FilmSurroundings
from render.job.resolve import resolve
from render.networks import weights
from render.networks.weights import Loaded

#: Several tiles a frame, of a shallow layer, so that a frame takes a fraction of a second.
TINY = (
    "image=sample:chelsea",
    "output.width=97",
    "output.height=80",
    "octaves.count=2",
    "octaves.steps=2",
    "objective.terms=[mixed0]",
    "tiles.size=32",
    "film.octaves.steps=2",
)
RATE = Fraction(4)
#: Digest of all tiny films.
DIGEST = "0" * 64


@dataclass
class TinyFilm:
    """A film of the words `TINY` and more, in a directory."""

    directory: Path
    words: tuple[str, ...] = ()
    frames: int = 4
    #: Digest of every frame's canvas, and its PNG, as far as they were made.
    canvases: dict[int, str] = field(default_factory=dict)

    @property
    def pictures(self) -> Path:
        return self.directory / "pictures"

    def film(self) -> DreamedFilm:
        job = load(FILM, "preview", [*TINY, f"output.dir={self.directory / 'film'}", *self.words])
        assert isinstance(job, FilmJob)
        return dreamed_film(job, resolve(job.job()), RATE, self.frames)

    def make(
        self,
        farm: Farm | int,
        first: int = 0,
        last: int | None = None,
        watch: Callable[[int, Event, Conductor], None] = lambda _frame, _event, _conductor: None,
    ) -> dict[int, str]:
        """Make frames and their pictures, and return the digests of all canvases so far."""
        self.pictures.mkdir(parents=True, exist_ok=True)
        farm = inline_farm(farm) if isinstance(farm, int) else farm
        film = self.film()
        loaded = _loaded(film.resolved.network.name)
        place = (self.directory / "film").absolute()
        surroundings = FilmSurroundings(place, DIGEST, time.perf_counter(), on_event=watch, farm=farm)
        with frames_in(film, surroundings, loaded=loaded) as maker:
            for made in maker.make(first, self.frames if last is None else last):
                canvas = made.canvas.open()
                pixels = canvas.read(canvas.rect)
                assert np.isfinite(pixels).all() and pixels.min() >= 0 and pixels.max() <= 255
                self.canvases[made.number] = hashlib.sha256(pixels.tobytes()).hexdigest()
                made.write(self.pictures / f"{made.number:06}.png")
        return self.canvases


@cache
def _loaded(model: str) -> Loaded:
    return weights.load(model)


def inline_farm(workers: int) -> Farm:
    """Return workers in this process, with the kernels of earlier ones."""
    global _kernels  # noqa: PLW0603 - compiled once for all tests of a process
    farm = InlineFarm(workers, 1, kernels=_kernels)
    _kernels = farm._kernels
    farm.close()
    return farm


_kernels = None
