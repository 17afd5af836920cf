"""Flat documents of Photoshop in its format for large files (PSB): up to 300,000 px a side, of any size in bytes.

Layout as in Adobe's Photoshop File Formats Specification (2019). Each channel is stored as a whole, so its rows are
written to their places as the picture is read, once, from the top. They are not compressed: a dream's pixels hardly
shrink by the run lengths that the format has.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import IO, Any

import numpy as np
import pyvips
from numpy.typing import NDArray

from render.canvas.image import CanvasImage
from render.export.metadata import Metadata
from render.export.panorama import panorama_properties
from render.export.picture import picture_file
from render.export.xmp_search import PHOTOSHOP_MAGIC, XMP_RESOURCE
from render.geometry.geometry import Rect, whole
from render.system import interrupts
from render.system.watched import in_thread

#: Version of the format for large documents.
_LARGE = 2
#: Colour modes by the number of channels: grey, RGB, CMYK.
_MODES = {1: 1, 3: 3, 4: 4}
#: Numbers of resources: resolution and ICC profile.
_RESOLUTION, _PROFILE = 1005, 1039
#: Units of the resolution (pixels an inch) and of lengths (inches).
_PER_INCH, _INCHES = 1, 1
#: Resolution of pictures without a physical size.
_SCREEN_DPI = 72.0


def write_psb(path: Path, picture: CanvasImage, metadata: Metadata, *, keep: bool = False) -> None:
    """Write a picture as a flat Photoshop document. The same arguments give the same bytes.

    Args:
        path: The file; it gets this name only when it is complete.
        picture: Picture of 8 or 16 bits, grey, RGB or CMYK.
        metadata: Metadata of the file.
        keep: True to raise `UserError` instead of replacing an existing file.

    Raises:
        UserError: The file cannot be written.
        DamagedCheckpoint: The canvas cannot be read.
    """
    with picture_file(path, "psb", picture.check, keep=keep) as file:
        file.write(_head(picture.image, metadata))
        _write_channels(file, picture)


def _head(image: pyvips.Image, metadata: Metadata) -> bytes:
    """Return all that comes before the pixels: header, colour mode, resources, no layers, no compression."""
    bits = 8 if image.format == "uchar" else 16
    header = struct.pack(
        ">4sH6xHIIHH", PHOTOSHOP_MAGIC, _LARGE, image.bands, image.height, image.width, bits, _MODES[image.bands]
    )
    packet = metadata.packet(panorama_properties(metadata.settings, (image.height, image.width)))
    resolution = round((metadata.dpi or _SCREEN_DPI) * 2**16)
    side = struct.pack(">IHH", resolution, _PER_INCH, _INCHES)
    resources = b"".join(
        _resource(number, content)
        for number, content in ((_RESOLUTION, 2 * side), (_PROFILE, metadata.profile), (XMP_RESOURCE, packet))
        if content is not None
    )
    colour_mode, layers, uncompressed = struct.pack(">I", 0), struct.pack(">Q", 0), struct.pack(">H", 0)
    return header + colour_mode + struct.pack(">I", len(resources)) + resources + layers + uncompressed


def _resource(number: int, content: bytes) -> bytes:
    """Return a resource without a name; its content is padded to an even length."""
    return struct.pack(">4sHHI", b"8BIM", number, 0, len(content)) + content + b"\0" * (len(content) % 2)


def _write_channels(file: IO[bytes], picture: CanvasImage) -> None:
    """Write the pixels behind what is in the file already."""
    image, start = picture.image, file.tell()
    for top, strip in _strips(image):
        interrupts.check()
        # Of inks, 0 is full.
        samples = np.iinfo(strip.dtype).max - strip if image.bands == 4 else strip
        row_bytes = image.width * strip.itemsize
        for channel in range(image.bands):
            file.seek(start + (channel * image.height + top) * row_bytes)
            file.write(samples[..., channel].astype(strip.dtype.newbyteorder(">")).tobytes())
        picture.check()


def _strips(image: pyvips.Image) -> Iterator[tuple[int, NDArray[Any]]]:
    """Yield a picture from the top: the first row of each strip, and its pixels (rows, columns, channels)."""
    region = pyvips.Region.new(image)
    dtype = np.uint8 if image.format == "uchar" else np.uint16

    def fetch(rect: Rect) -> NDArray[Any]:
        """Have libvips compute a strip."""
        fetched = region.fetch(rect.columns.start, rect.rows.start, rect.columns.size, rect.rows.size)
        return np.frombuffer(fetched, dtype).reshape(*rect.shape, image.bands)

    for rect in whole(image.height, image.width).bands():
        yield rect.rows.start, in_thread(partial(fetch, rect))
