"""Directory of a film as a film command leaves it after every frame, with frames of plain arithmetic."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from render.config.compose import load
from render.config.root_kinds import FILM
from render.film.film_state import FilmState, write_state
from render.film.video.encoding import encode_segment
from render.film.video.film_formats import choose
from render.film.video.segment_joining import constant, join_segments
from render.source.source import find_picture
from render.viewer.film_server import FilmServer, serving_film
from render.viewer.live_film import LiveFilm
from tests.support.http_server import answering

SHAPE, RATE = (96, 144), Fraction(8)
DIGEST = "ab" * 32


def frame(number: int) -> np.ndarray:
    """Return a frame that differs from its neighbours everywhere."""
    rows, columns = np.mgrid[: SHAPE[0], : SHAPE[1]]
    return np.stack([rows * 2 % 256, columns, np.full(SHAPE, number * 20 % 256)], axis=-1).astype(np.uint8)


class TinyFilm:
    """A film's directory."""

    def __init__(self, directory: Path, frames: int = 12, *words: str, name: str = "zoom") -> None:
        self.directory, self.frames = directory, frames
        (directory / "frames").mkdir(parents=True)
        job = load(FILM, "zoom", ["image=sample:chelsea", "film.zoom=2", f"film.rate={RATE}", *words])
        job.name = name
        content = find_picture(job.image, "a picture")[1]
        self.record: dict[str, Any] = {
            "status": "running", "started": "2026-01-01T00:00:00+0000", "digest": DIGEST, "config": asdict(job.job()),
            "film": asdict(job.film), "frames": frames, "shape": list(SHAPE), "rate": str(RATE),
            "identity": {"image content": content, "objective": "mixed4"}, "pictures": {},
        }  # fmt: skip
        self.finished = 0
        self.save()

    def save(self, **facts: Any) -> None:
        self.record |= facts
        (self.directory / "run.json").write_text(json.dumps(self.record))

    def make(self, count: int) -> None:
        """Finish some more frames."""
        for number in range(self.finished, self.finished + count):
            Image.fromarray(frame(number)).save(self.directory / "frames" / f"{number:06}.png")
            write_state(self.directory, FilmState(DIGEST, number + 1, self.frames))
        self.finished += count

    def finish(self, format: str = "mp4", codec: str | None = None) -> None:
        """Finish the film and its file."""
        self.make(self.frames - self.finished)
        settings = choose(format, codec, 8, SHAPE, rate=RATE)
        segment = self.directory / "segment.mkv"
        encode_segment(segment, map(frame, range(self.frames)), settings, 0)
        path = self.directory / f"zoom.{settings.format.suffixes[0]}"
        join_segments(path, [segment], settings, constant(RATE, self.frames), overwrite=True)
        self.save(status="finished", film_file=path.name)


@contextmanager
def shown(film: TinyFilm) -> Iterator[FilmServer]:
    with serving_film(LiveFilm(film.directory)) as server, answering(server):
        yield server
