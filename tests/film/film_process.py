"""Films as tests make them in processes that may be killed: frames of plain arithmetic, and stand-ins for encoders.

Run as a program with words of `film`, and `KILL_AT=N` in the environment to end by SIGKILL at the N-th place where a
process can die: after a frame was made, after its picture, after it was counted, and around each part's encoding.
"""

from __future__ import annotations

import hashlib
import os
import signal
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pyvips

from render.__main__ import main
from render.config.film_schema import FilmJob
from render.config.film_validation import still_config
from render.config.schema import Config
from render.film import film_directory, film_file, film_parts, makers
from render.film.film_draft import FilmNeeds, FilmSurroundings
from render.film.frame_maker import MadeFrame
from render.film.zoom_film import zoom_length
from render.storage.local import replacing
from render.storage.url import Place

SHAPE = (32, 48)
_places = 0


def die_here() -> None:
    """Count a place where a process can die, and die at the one that `KILL_AT` names."""
    global _places  # noqa: PLW0603 - counts over the whole process
    _places += 1
    if _places == int(os.environ.get("KILL_AT", "0")):
        os.kill(os.getpid(), signal.SIGKILL)


@dataclass(frozen=True)
class PlainFrame:
    """Frame of a state: see `MadeFrame`."""

    number: int
    state: np.ndarray[Any, Any]

    def write(self, path: Path) -> None:
        with replacing(path) as file:
            file.write(pyvips.Image.new_from_array(self.state).write_to_buffer(".png"))
        die_here()


@dataclass(frozen=True)
class PlainMaker:
    """Maker of frames that each follow from the one before, whose state it keeps on disk as a dream's canvas is."""

    place: Path
    shape: tuple[int, int] = SHAPE

    def make(self, first: int, last: int) -> Iterator[MadeFrame]:
        for number in range(first, last):
            state = np.full((*SHAPE, 3), 7, np.uint8) if number == 0 else np.load(self.place / f"{number - 1:06}.npy")
            state = (state.astype(np.int64) * 3 + np.arange(state.size).reshape(state.shape) + number).astype(np.uint8)
            self.place.mkdir(parents=True, exist_ok=True)
            with replacing(self.place / f"{number:06}.npy") as file:
                np.save(file, state)
            die_here()
            yield PlainFrame(number, state)


@dataclass(frozen=True)
class PlainFilm:
    """A `FilmDraft` of plain frames."""

    config: Config
    rate: Fraction
    frames: int
    identity: Mapping[str, str | None]
    shape: tuple[int, int] = SHAPE
    timing: None = None
    sound: None = None
    aspect: Fraction = Fraction(1)

    def needs(self) -> FilmNeeds:
        return FilmNeeds(memory_bytes=1 << 20, canvas_bytes=1 << 20)

    def pace(self) -> float | None:
        return None

    @contextmanager
    def opened(self, surroundings: FilmSurroundings) -> Iterator[PlainMaker]:
        assert isinstance(surroundings.place, Path)
        yield PlainMaker(surroundings.place / "states")


def draft_plain(job: FilmJob, _place_of: Callable[..., Place]) -> PlainFilm:
    """Draft a film of plain frames."""
    return PlainFilm(still_config(job), *zoom_length(job), {"program": "test"})


def encode_segment(path: Path, frames: Iterable[np.ndarray[Any, Any]], settings: Any, first_number: int = 0) -> int:
    """Write a digest for each frame, and the quality, as the encoding of a part."""
    die_here()
    lines = [f"{hashlib.sha256(frame.tobytes()).hexdigest()} {settings.quality}" for frame in frames]
    with replacing(path) as file:
        file.write("".join(f"{first_number + index} {line}\n" for index, line in enumerate(lines)).encode())
    die_here()
    return len(lines)


def join_segments(path: Path, segments: Sequence[Path], *_: Any, **_options: Any) -> None:
    """Write the parts one after the other."""
    with replacing(path) as file:
        file.write(b"".join(segment.read_bytes() for segment in segments))
    die_here()


def use_plain_films() -> None:
    """Make plain films from now on, in parts of 4 frames."""
    makers.KINDS["zoom"] = "zoom_film:draft_plain"
    from render.film import zoom_film

    zoom_film.draft_plain = draft_plain  # type: ignore[attr-defined]
    film_parts.encode_segment, film_file.join_segments, film_parts.SEGMENT_FRAMES = encode_segment, join_segments, 4
    store = film_directory.FilmDirectory.store_frame

    def store_frame(self: film_directory.FilmDirectory, number: int, frames: int) -> None:
        store(self, number, frames)
        die_here()

    film_directory.FilmDirectory.store_frame = store_frame  # type: ignore[method-assign]


if __name__ == "__main__":
    use_plain_films()
    sys.exit(main(["film", *sys.argv[1:]]))
