"""Encoded parts of a film: whole groups of frames, from whose files the film is joined without encoding again."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pyvips

from render.errors import UserError
from render.film.film_directory import PICTURES, SEGMENTS, FilmDirectory
from render.film.video.encoding import encode_segment
from render.film.video.film_formats import VideoSettings
from render.storage.opening import open_storage

#: Frames of a part that is encoded by itself.
SEGMENT_FRAMES = 48
#: Most parts that wait for the encoder while frames are made, so that their pictures do not fill the disk.
MAX_WAITING = 2


def segment_ranges(frames: int) -> list[tuple[int, int]]:
    """Return the ranges of frames, (first, end), that are encoded by themselves."""
    return [(first, min(first + SEGMENT_FRAMES, frames)) for first in range(0, frames, SEGMENT_FRAMES)]


def part_name(first: int, end: int) -> str:
    """Return the file name of the part with the frames from `first` to before `end`."""
    return f"{first:06}-{end:06}.mkv"


class FilmParts:
    """The encoded parts of a film of some settings of encoding. A part's file is complete if it is there."""

    def __init__(self, directory: FilmDirectory, settings: VideoSettings) -> None:
        """Store where the parts lie; nothing is read or encoded.

        Args:
            directory: Directory of the film.
            settings: Settings of the encoding.
        """
        values = (
            settings.codec.name,
            settings.shape,
            settings.bits,
            str(settings.rate),
            settings.quality,
            str(settings.aspect),
            settings.variable,
        )
        self._digest = hashlib.sha256(repr(values).encode()).hexdigest()
        self._film, self._settings = directory, settings
        self._directory = directory.segments(self._digest)

    @property
    def is_video(self) -> bool:
        """Whether the film's file is joined from parts; animations and numbered pictures are written from pictures."""
        return self._settings.format.kind == "video"

    def encode(self, first: int, end: int, *, removes: bool = False) -> Path:
        """Return the part with the frames from `first` to before `end`; encode it if it is not there.

        Args:
            first: Number of its first frame.
            end: Number of the frame after its last one.
            removes: True to remove the pictures of a whole part once it is stored.

        Raises:
            UserError: A picture is gone or damaged, or the disk refuses.
        """
        path, is_remote = self._directory / part_name(first, end), self._film.run.home.is_remote
        name = path.relative_to(self._film.path).as_posix()
        if not path.is_file():
            path.parent.mkdir(parents=True, exist_ok=True)
            if is_remote and open_storage(self._film.place).info(name) is not None:
                open_storage(self._film.place, patient=True).fetch(name, path)
            else:
                encode_segment(path, read_pictures(self._film.pictures(first, end)), self._settings, first)
        if removes and end - first == SEGMENT_FRAMES:
            if is_remote and open_storage(self._film.place).info(name) is None:
                open_storage(self._film.place, patient=True).write_file(name, path)
            self._film.remove_pictures(first, end)
        return path

    def refuse_lost(self, finished: int, frames: int) -> None:
        """Raise `UserError` if the film's file cannot be written, as frames have neither a picture nor a part.

        Args:
            finished: Number of finished frames.
            frames: Frames of the film that is asked for.
        """
        storage = open_storage(self._film.place)
        # In this order: a process that makes the film removes pictures when their part is there.
        pictures = set(storage.children(PICTURES))
        parts = {name: set(storage.children(f"{SEGMENTS}/{name}")) for name in storage.children(SEGMENTS)}
        encoded = parts.get(self._directory.name, set()) if self.is_video else set()
        for first, end in segment_ranges(frames):
            if part_name(first, end) in encoded:
                continue
            for number in range(first, min(end, finished)):
                if self._film.picture(number).name not in pictures:
                    is_removed = all(self._film.picture(frame).name not in pictures for frame in range(first, end))
                    others = set().union(*parts.values()) if is_removed else set()
                    raise UserError(self._lost(number, frames, encoded, others))

    def _lost(self, number: int, frames: int, encoded: set[str], others: set[str]) -> str:
        """Return the message for a frame without a picture or a part that fits."""
        first = number // SEGMENT_FRAMES * SEGMENT_FRAMES
        end = first + SEGMENT_FRAMES
        if part_name(first, end) in encoded:
            lengths = f"{first} or {end}" if first else str(end)
            return (
                f"a film of {frames} frames ends within frames {first + 1} to {end}, which are encoded together and have "
                f"no pictures any more: set film.seconds for {lengths} frames, or fresh=true to start over"
            )
        if part_name(first, end) in others:
            return (
                f"{self._film.place} has its first {end} frames encoded with other settings, and no pictures to encode "
                "again: make it with the film.format, film.codec and film.quality that it had, or start over with "
                "fresh=true film.pictures=keep"
            )
        return self._film.lost_picture(number)

    def remove_others(self, frames: int) -> None:
        """Remove parts that a film of `frames` frames is not joined from: of other settings, and ends of other lengths."""
        self._film.remove_segments(but=self._digest if self.is_video else "")
        ranges = segment_ranges(frames)
        if self.is_video and ranges and self._directory.is_dir():
            last = part_name(*ranges[-1])
            for path in self._directory.glob("[0-9]*-[0-9]*.mkv"):
                first, _, end = path.stem.partition("-")
                is_end = first.isdigit() and end.isdigit() and int(end) - int(first) < SEGMENT_FRAMES
                if is_end and path.name != last:
                    path.unlink(missing_ok=True)


class SegmentEncoder:
    """Encoder of whole parts in a thread beside the maker of the frames."""

    def __init__(self, parts: FilmParts, *, removes: bool) -> None:
        """Store the parts; nothing is encoded yet.

        Args:
            parts: The film's parts.
            removes: True to remove pictures once their part is stored.
        """
        self._parts, self._removes = parts, removes
        self._thread = ThreadPoolExecutor(1, "encoder")
        self._running: list[Future[Path]] = []

    def catch_up(self, finished: int) -> None:
        """Encode the parts that an earlier process left."""
        for end in range(SEGMENT_FRAMES, finished + 1, SEGMENT_FRAMES):
            self.frame_finished(end - 1)

    def frame_finished(self, number: int) -> None:
        """Encode the part that ends with a frame, if it is a whole one; raise an earlier part's error.

        Waits while more than `MAX_WAITING` parts are to be encoded.
        """
        for future in [future for future in self._running if future.done()]:
            self._running.remove(future)
            future.result()
        if self._parts.is_video and (number + 1) % SEGMENT_FRAMES == 0:
            first = number + 1 - SEGMENT_FRAMES
            self._running.append(self._thread.submit(self._parts.encode, first, number + 1, removes=self._removes))
            if len(self._running) > MAX_WAITING:
                self._running.pop(0).result()

    def close(self, *, failed: bool) -> None:
        """Wait for the part in hand; drop those that wait if the film stops."""
        self._thread.shutdown(wait=True, cancel_futures=failed)
        if not failed:
            for future in self._running:
                future.result()


def read_pictures(paths: Sequence[Path]) -> Iterator[np.ndarray[Any, Any]]:
    """Yield the pixels of pictures, (rows, columns, 3) RGB, uint8 or uint16, one at a time.

    Raises:
        UserError: A picture is gone or damaged.
    """
    for path in paths:
        try:
            image = pyvips.Image.new_from_file(os.fspath(path), access="sequential", fail_on="error")
            yield np.ascontiguousarray(image.numpy()[:, :, :3])
        except pyvips.Error as error:
            reason = str(error).splitlines()[0].strip()
            raise UserError(f"{path} cannot be read ({reason}): restore it, or fresh=true starts over") from None
