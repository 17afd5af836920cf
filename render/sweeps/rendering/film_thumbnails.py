"""Thumbnails of films: a frame that stands still, and the film's beginning as a small animated WebP."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import pyvips

from render.errors import UserError
from render.export.picture import image_of, write_whole
from render.film.film_parts import read_pictures
from render.film.film_run import OpenedFilm
from render.film.video.footage import open_footage
from render.film.video.planes import Picture, to_uint8
from render.sweeps.rendering.thumbnails import THUMBNAIL

#: File name of the moving thumbnail in a run directory.
MOTION = "motion.webp"
#: Longest part of a film that it shows, s, most frames a second, and largest size, bytes.
MAX_MOTION_S, MAX_MOTION_RATE, MAX_MOTION_BYTES = 4.0, 12.0, 400_000
#: Attempts to keep that size: quality, and which part of the frames is left out (1 for none, 2 for every other).
_ATTEMPTS = ((70, 1), (50, 1), (35, 1), (35, 2), (25, 2), (25, 4))
#: Quality of the frame that stands still.
_QUALITY = 82
#: Shortest side to which a moving thumbnail is made smaller, px.
_MIN_SIDE = 48
#: Tolerance of times, s, so that rounding leaves out no frame.
_TIME_TOLERANCE = 1e-6


def make_film_thumbnails(film: OpenedFilm, side: int) -> None:
    """Write `thumbnail.webp`, the frame in the middle, and `motion.webp` into a finished film's directory.

    Both are 8-bit sRGB and at most `side` px long, and the moving one is smaller if it would take more than
    `MAX_MOTION_BYTES`.

    Raises:
        UserError: The film cannot be read, or a file cannot be written.
    """
    directory, frames = film.directory.path, film.draft.frames
    size = _fitted(film, side)
    numbers, delays = motion_frames(*_times(film))
    moving = [_shrunk(frame, size) for frame in _chosen(film, numbers)]
    (middle,) = (_shrunk(frame, size) for frame in _chosen(film, [frames // 2]))
    # Last: a point counts as done once both are there.
    write_whole(directory / MOTION, animated_webp(moving, delays))
    write_whole(directory / THUMBNAIL, _still(middle))


def motion_frames(starts: Sequence[float], end: float) -> tuple[list[int], list[int]]:
    """Return the frames of a moving thumbnail, and for how long each is shown, ms.

    Args:
        starts: Time at which each frame of the film begins, s, ascending from 0.
        end: Time at which the last one ends, s.
    """
    length, numbers, due = min(end, MAX_MOTION_S), [0], 1 / MAX_MOTION_RATE
    for number, start in enumerate(starts):
        if number and start > length - _TIME_TOLERANCE:
            break
        if number and start > due - _TIME_TOLERANCE:
            numbers.append(number)
            due = start + 1 / MAX_MOTION_RATE
    times = [round(1000 * starts[number]) for number in numbers] + [round(1000 * length)]
    return numbers, [max(1, later - earlier) for earlier, later in zip(times, times[1:], strict=False)]


def _times(film: OpenedFilm) -> tuple[list[float], float]:
    """Return the times at which a film's frames begin, from 0, and its end, s."""
    draft = film.draft
    if draft.timing is None:
        return [float(number / draft.rate) for number in range(draft.frames)], float(draft.frames / draft.rate)
    first, unit = draft.timing.times[0], draft.timing.unit
    return [float((time - first) * unit) for time in draft.timing.times], float((draft.timing.end - first) * unit)


def _chosen(film: OpenedFilm, numbers: Sequence[int]) -> Iterator[Picture]:
    """Yield frames of a finished film, (rows, columns, 3) uint8, by ascending numbers.

    Videos are decoded, as pictures of their frames are removed; of other films they stay.
    """
    if film.file.settings.format.kind != "video":
        for number in numbers:
            yield from map(to_uint8, read_pictures(film.directory.pictures(number, number + 1)))
        return
    frames = enumerate(open_footage(film.file.path).frames(numbers[0]), numbers[0])
    for number in numbers:
        frame = next((frame for position, frame in frames if position == number), None)
        if frame is None:
            raise UserError(f"{film.file.path} has no frame {number}: remove it, and the same command writes it again")
        yield frame


def _fitted(film: OpenedFilm, side: int) -> tuple[int, int]:
    """Return (rows, columns) px of a film's thumbnail with square pixels and sides of at most `side` px."""
    rows, columns = film.draft.shape[0], float(film.draft.shape[1] * film.draft.aspect)
    scale = min(1.0, side / max(rows, columns))
    return max(1, round(rows * scale)), max(1, round(columns * scale))


def _shrunk(frame: Picture, size: tuple[int, int]) -> pyvips.Image:
    """Return a frame of another size, (rows, columns) px, averaged over areas, in memory."""
    return image_of(frame).thumbnail_image(size[1], height=size[0], size="force").copy_memory()


def _still(image: pyvips.Image) -> bytes:
    content: bytes = image.webpsave_buffer(Q=_QUALITY, keep="none")
    return content


def animated_webp(images: Sequence[pyvips.Image], delays: Sequence[int]) -> bytes:
    """Return images of one size as an animated WebP that repeats for ever: of the best quality that is small enough.

    If none is, the images are made smaller.
    """
    while True:
        for quality, step in _ATTEMPTS:
            kept = range(0, len(images), step)
            shown = [sum(delays[number : number + step]) for number in kept]
            content = _encoded([images[number] for number in kept], shown, quality)
            if len(content) <= MAX_MOTION_BYTES:
                return content
        rows, columns = images[0].height, images[0].width
        if min(rows, columns) < 2 * _MIN_SIDE:
            return content
        images = [image.thumbnail_image(columns // 2, height=rows // 2, size="force").copy_memory() for image in images]


def _encoded(images: Sequence[pyvips.Image], delays: Sequence[int], quality: int) -> bytes:
    """Return images as an animated WebP; `delays` says for how long each is shown, ms."""
    strip = pyvips.Image.arrayjoin(list(images), across=1).copy()
    strip.set_type(pyvips.GValue.array_int_type, "delay", list(delays))
    strip.set_type(pyvips.GValue.gint_type, "loop", 0)
    content: bytes = strip.webpsave_buffer(Q=quality, keep="none", page_height=images[0].height)
    return content
