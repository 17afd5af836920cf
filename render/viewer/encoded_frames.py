"""Frames of a film whose pictures are gone, decoded from the encoded parts that hold them."""

from __future__ import annotations

import io
import re
from pathlib import Path

from PIL import Image

from render.errors import UserError
from render.film.film_directory import SEGMENTS
from render.film.video.footage import open_footage

_PART = re.compile(r"(\d{6,9})-(\d{6,9})\.mkv")


def encoded_frame(film: Path, number: int) -> bytes:
    """Return a frame as PNG from the newest part that holds it, with the part's loss.

    Args:
        film: Directory of the film, perhaps somebody else's: links are not followed.
        number: Number of the frame.

    Raises:
        UserError: No part holds the frame, or it cannot be decoded.
    """
    parts = sorted((film / SEGMENTS).glob("*/*.mkv"), key=lambda path: path.lstat().st_mtime_ns, reverse=True)
    for part in parts:
        match = _PART.fullmatch(part.name)
        if match is None or not int(match[1]) <= number < int(match[2]):
            continue
        if any(path.is_symlink() for path in (part, part.parent, part.parent.parent)):
            continue
        pixels = next(open_footage(part).frames(number - int(match[1])), None)
        if pixels is not None:
            png = io.BytesIO()
            Image.fromarray(pixels).save(png, "PNG", compress_level=1)
            return png.getvalue()
    raise UserError(f"frame {number} has neither a picture nor an encoded part")
