"""Pictures in a PDF: encoded by libvips while they are written, of any size.

Without loss, PDF has the pixels as PNG has them: each row as differences of its neighbours, all deflated (ISO 32000-1,
7.4.4.4). So libvips writes a PNG, of which the compressed pixels are taken. With loss, they are a JPEG.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pyvips

from render.canvas.image import CanvasImage
from render.export.pdf_objects import PdfName, PdfReference, PdfWriter
from render.export.picture import Encoding
from render.geometry.geometry import Interval, Rect
from render.system.watched import in_thread

#: Longest side of an image, px: that of a JPEG.
_MAX_SIDE = 65_500
#: Most bytes of an image's pixels: many readers count with 31 bits.
_MAX_BYTES = 2**31 - 2**20
#: Value of Predictor that says that each row names its own (table 10).
_PNG_PREDICTORS = 15
#: Level of deflate, as of PNG.
_DEFLATE_LEVEL = 6
#: Filter of PNG for every row: to try all five takes several times as long, and saves less than half a per cent.
_PNG_FILTER = "avg"
#: Bytes of PNG's signature, of the length and name of a chunk, and of its checksum (third edition, 5.3).
_SIGNATURE_BYTES, _HEAD_BYTES, _CHECKSUM_BYTES = 8, 8, 4


@dataclass(frozen=True)
class PlacedImage:
    """An image of the file, and the pixels of the picture that it shows."""

    reference: PdfReference
    rect: Rect


def image_rects(rect: Rect, pixel_bytes: int) -> list[Rect]:
    """Return the parts of a page's pixels that become images: all of them, if one image can hold that.

    Each part is drawn over the ones before. Each has the first pixels of those to its right and below, too, so that no
    paper shines through at their borders.

    Args:
        rect: The pixels.
        pixel_bytes: Bytes of a pixel.
    """
    width = min(rect.columns.size, _MAX_SIDE - 1)
    height = min(rect.rows.size, _MAX_SIDE - 1, max(1, _MAX_BYTES // ((width + 1) * pixel_bytes) - 1))
    return [
        Rect(Interval(top, min(top + height + 1, rect.rows.stop)), Interval(left, min(left + width + 1, rect.columns.stop)))
        for top in range(*rect.rows, height)
        for left in range(*rect.columns, width)
        # What is left may be the one pixel that its neighbour has already.
        if (top == rect.rows.start or top + 1 < rect.rows.stop)
        and (left == rect.columns.start or left + 1 < rect.columns.stop)
    ]


def write_images(
    writer: PdfWriter, picture: CanvasImage, rect: Rect, colour_space: Any, encoding: Encoding
) -> list[PlacedImage]:
    """Write the images of a page.

    Args:
        writer: The file.
        picture: The whole print, which need not be read in order.
        rect: The pixels of the page.
        colour_space: Colour space of the picture, a value of PDF.
        encoding: JPEG if its compression is `jpeg`, else without loss.

    Raises:
        OSError: The file cannot be written.
        pyvips.Error: libvips refuses.
        DamagedCheckpoint: The canvas cannot be read.
    """
    image = picture.image
    pixel_bytes = image.bands * (1 if image.format == "uchar" else 2)
    images = []
    for part in image_rects(rect, pixel_bytes):
        pixels = image.crop(part.columns.start, part.rows.start, part.columns.size, part.rows.size)
        entries = {
            "Type": PdfName("XObject"),
            "Subtype": PdfName("Image"),
            "Width": pixels.width,
            "Height": pixels.height,
            "ColorSpace": colour_space,
            "BitsPerComponent": 8 if pixels.format == "uchar" else 16,
        }
        write = _write_jpeg if encoding.compression == "jpeg" else _write_deflated
        images.append(PlacedImage(write(writer, entries, pixels, encoding), part))
        picture.check()
    return images


def _write_deflated(writer: PdfWriter, entries: dict[str, Any], image: pyvips.Image, _: Encoding) -> PdfReference:
    """Write an image without loss."""
    parameters = {
        "Predictor": _PNG_PREDICTORS,
        "Colors": image.bands,
        "BitsPerComponent": entries["BitsPerComponent"],
        "Columns": image.width,
    }
    with writer.stream({**entries, "Filter": PdfName("FlateDecode"), "DecodeParms": parameters}) as (reference, write):
        _encode(_as_png_holds(image), PngPixels(write), "pngsave_target", compression=_DEFLATE_LEVEL, filter=_PNG_FILTER)
    return reference


def _as_png_holds(image: pyvips.Image) -> pyvips.Image:
    """Return an image that PNG can hold, with the same samples: CMYK passes as RGB with transparency."""
    if image.bands != 4:
        return image
    return image.copy(interpretation="srgb" if image.format == "uchar" else "rgb16")


def _write_jpeg(writer: PdfWriter, entries: dict[str, Any], image: pyvips.Image, encoding: Encoding) -> PdfReference:
    """Write an image as a JPEG."""
    entries = {**entries, "Filter": PdfName("DCTDecode")}
    if image.bands == 4:
        # libvips writes CMYK as Photoshop does, with 0 for full ink.
        entries["Decode"] = [1, 0] * image.bands
    with writer.stream(entries) as (reference, write):
        _encode(image, write, "jpegsave_target", Q=encoding.quality, subsample_mode="off")
    return reference


def _encode(image: pyvips.Image, write: Callable[[bytes], None], saver: str, **options: Any) -> None:
    """Have libvips encode an image, and pass its bytes on as they come."""
    errors: list[BaseException] = []

    def receive(data: Any) -> int:
        try:
            write(bytes(data))
        except BaseException as error:
            # It cannot pass through libvips.
            errors.append(error)
            return -1
        return len(data)

    target = pyvips.TargetCustom()
    target.on_write(receive)
    try:
        in_thread(lambda: getattr(image, saver)(target, keep="none", **options))
    except pyvips.Error:
        if errors:
            raise errors[0] from None
        raise
    if errors:
        raise errors[0]


class PngPixels:
    """Function that gets the bytes of a PNG in pieces of any length and passes its compressed pixels on."""

    def __init__(self, write: Callable[[bytes], None]) -> None:
        """Begin before the first byte.

        Args:
            write: Function that gets the pixels: the content of all IDAT chunks, one zlib stream.
        """
        self._write = write
        self._head = bytearray()
        self._head_bytes = _SIGNATURE_BYTES + _HEAD_BYTES
        #: Bytes of the current chunk that are left, its checksum included.
        self._left = 0
        self._has_pixels = False

    def __call__(self, data: bytes) -> None:
        """Take the next bytes of the file."""
        view = memoryview(data)
        while view:
            size = min(len(view), self._left or self._head_bytes - len(self._head))
            if self._left:
                content = min(size, self._left - _CHECKSUM_BYTES)
                if self._has_pixels and content > 0:
                    self._write(bytes(view[:content]))
                self._left -= size
            else:
                self._head += view[:size]
                if len(self._head) == self._head_bytes:
                    self._begin_chunk()
            view = view[size:]

    def _begin_chunk(self) -> None:
        """Read the length and the name of a chunk."""
        length, name = struct.unpack(">I4s", self._head[-_HEAD_BYTES:])
        self._left, self._has_pixels = length + _CHECKSUM_BYTES, name == b"IDAT"
        self._head, self._head_bytes = bytearray(), _HEAD_BYTES
