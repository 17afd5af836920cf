"""Sources of a film's frames for the viewer: a zoom's picture under the same camera, and the frames of footage."""

from __future__ import annotations

import io
import threading
from collections.abc import Mapping
from fractions import Fraction
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from render.canvas.image import to_integers
from render.config.film_schema import FilmJob
from render.config.recorded_film import recorded_film
from render.errors import UserError
from render.film.dreamed.camera import Camera
from render.film.dreamed.keyframes import read_keyframes
from render.film.dreamed.timeline import Timeline
from render.film.video.footage import Footage, open_footage
from render.geometry.geometry import BOUNDARY_MODES, Interval, Rect
from render.job.recorded_source import reopen_source
from render.source.source import MAX_IN_MEMORY_PX, Source, find_picture
from render.source.warped import FrameSource, WarpedCanvas, from_octave
from render.source.warping import warp
from render.storage.url import checked_url

#: Longest side of a source that is shown, px.
MAX_SIDE = 1280
_JPEG_QUALITY = 90
#: Sources of frames that are kept.
_MAX_CACHED = 64


class FrameSourceReader(Protocol):
    """Reader of the source of every frame."""

    @property
    def times(self) -> list[float] | None:
        """Time of every frame, s; None if frames come at an even rate."""

    def pixels(self, number: int) -> NDArray[np.uint8]:
        """Return the source of a frame, (rows, columns, 3); raise `UserError` if it cannot be read."""


class ZoomSource:
    """Picture that a zoom dreams from, as the film's camera sees it."""

    times: list[float] | None = None

    def __init__(self, job: FilmJob, picture: Source, rate: Fraction, shape: tuple[int, int]) -> None:
        """Store the parts.

        Args:
            job: Config of the film.
            picture: Its picture, with the film's layout.
            rate: Frames a second.
            shape: (rows, columns) px of its frames.
        """
        self._camera = Camera(Timeline(read_keyframes(job.film), rate, job.film.easing), rate, shape)
        self._modes = BOUNDARY_MODES[job.boundary.mode]
        self._picture, self._shape = picture, shape
        shrink = min(1.0, MAX_SIDE / max(shape))
        self._view = (max(1, round(shape[0] * shrink)), max(1, round(shape[1] * shrink)))
        self._lock = threading.Lock()

    def pixels(self, number: int) -> NDArray[np.uint8]:
        """Return the source of a frame: see `FrameSourceReader`."""
        with self._lock:
            to_first = self._camera.to_first(number)
        canvas = WarpedCanvas(Path(), "", self._shape, to_first)
        read_shape = FrameSource(canvas, self._modes, to_picture=to_first).picture_shape(self._view)
        to_read = from_octave(self._shape, read_shape).after(to_first).after(from_octave(self._view, self._shape))
        rect = Rect(Interval(0, self._view[0]), Interval(0, self._view[1]))
        picture = self._picture
        pixels = warp(lambda part: picture.at(read_shape, part), read_shape, self._modes, to_read, self._view, rect)
        return to_integers(np.clip(pixels, 0.0, 255.0), 8)


class FootageSource:
    """Frames of the footage that is dreamed."""

    def __init__(self, footage: Footage) -> None:
        """Store the footage."""
        self._footage = footage
        base = footage.time_base
        self.times: list[float] | None = [float(time * base) for time in footage.pts]

    def pixels(self, number: int) -> NDArray[np.uint8]:
        """Return a frame of the footage: see `FrameSourceReader`."""
        picture = next(self._footage.frames(number), None)
        if picture is None:
            raise UserError(f"the footage has no frame {number}")
        image = Image.fromarray(np.asarray(picture, np.uint8))
        image.thumbnail((MAX_SIDE, MAX_SIDE))
        return np.asarray(image)


def open_frame_sources(record: Mapping[str, Any], rate: Fraction, shape: tuple[int, int]) -> FrameSourceReader | None:
    """Return the sources of the film of a record.

    None if the film has none, or if its file is gone, has changed, or is not on a disk of this machine.

    Args:
        record: Record of the film, which may be anybody's: only a file whose content it names is decoded.
        rate: Frames a second.
        shape: (rows, columns) px of the frames.
    """
    identity = record.get("identity")
    sha256 = identity.get("image content") if isinstance(identity, Mapping) else None
    if not isinstance(sha256, str):
        return None
    try:
        job = recorded_film(record)
        if job.film.of == "zoom":
            job.source.max_megapixels = min(job.source.max_megapixels, MAX_IN_MEMORY_PX / 1e6)
            picture = reopen_source(job.job(), sha256, Path())
            return None if picture is None else ZoomSource(job, picture, rate, shape)
        if job.film.of != "footage" or checked_url(job.image, "image") is not None:
            return None
        path, content = find_picture(job.image, "a film")
        return FootageSource(open_footage(path, job.film.damaged)) if content == sha256 else None
    except UserError:
        return None


class SourceJpegs:
    """JPEG pictures of the frames' sources, of which the newest stay in memory. Safe for any number of threads."""

    def __init__(self, reader: FrameSourceReader) -> None:
        """Store the reader; nothing is read yet."""
        self._reader = reader
        self._jpegs: dict[int, bytes] = {}
        self._lock = threading.Lock()

    @property
    def times(self) -> list[float] | None:
        """Time of every frame, s: see `FrameSourceReader.times`."""
        return self._reader.times

    def jpeg(self, number: int) -> bytes:
        """Return the source of a frame; raise `UserError` if it cannot be read."""
        # One at a time: each may hold a large frame in memory.
        with self._lock:
            if number not in self._jpegs:
                file = io.BytesIO()
                Image.fromarray(self._reader.pixels(number)).save(file, "JPEG", quality=_JPEG_QUALITY, subsampling="4:4:4")
                while len(self._jpegs) >= _MAX_CACHED:
                    del self._jpegs[next(iter(self._jpegs))]
                self._jpegs[number] = file.getvalue()
            return self._jpegs[number]
