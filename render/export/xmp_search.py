"""XMP packets in files that libvips does not read: PDF and Photoshop documents of this program.

No object of a PDF and no layer of a document is interpreted, and reads are bounded.
"""

from __future__ import annotations

import os
import stat
import struct
from pathlib import Path
from typing import IO

from render.export.xmp import MAX_BYTES

#: First bytes of PDF files and of Photoshop documents.
PDF_MAGIC, PHOTOSHOP_MAGIC = b"%PDF-", b"8BPS"
#: Photoshop's number for the XMP packet among a document's resources.
XMP_RESOURCE = 1060
#: First and last bytes of a packet (ISO 16684-1, 7.3.2).
_BEGIN, _END = b"<?xpacket begin", b"<?xpacket end"
#: Most bytes after the packet in a PDF of this program: its last objects and the list of offsets.
_MAX_TAIL_BYTES = 1 << 20
#: Most resources of a document that are looked at.
_MAX_RESOURCES = 1000


def find_packet(path: Path) -> bytes | None:
    """Return the XMP packet of a PDF or a Photoshop document.

    It is empty if there is none; None for every other file.

    Raises:
        OSError: The file cannot be read.
    """
    if not stat.S_ISREG(path.stat().st_mode):
        return None
    with path.open("rb") as file:
        start = file.read(len(PDF_MAGIC))
        if start.startswith(PDF_MAGIC):
            return _last_packet(file)
        if start.startswith(PHOTOSHOP_MAGIC):
            try:
                return _resource(file, XMP_RESOURCE)
            except struct.error:
                # The file ends within its resources.
                return b""
    return None


def _last_packet(file: IO[bytes]) -> bytes:
    """Return the last packet of a PDF; empty if its last bytes hold none."""
    length = file.seek(0, os.SEEK_END)
    file.seek(max(0, length - MAX_BYTES - _MAX_TAIL_BYTES))
    content = file.read(MAX_BYTES + _MAX_TAIL_BYTES)
    begin = content.rfind(_BEGIN)
    end = content.find(_END, begin)
    if begin < 0 or end < 0:
        return b""
    return content[begin : content.find(b"?>", end) + 2]


def _resource(file: IO[bytes], wanted: int) -> bytes:
    """Return the content of a numbered resource of a Photoshop document; empty if it is missing or too large."""
    header_bytes = 26
    file.seek(header_bytes)
    (colour_mode_bytes,) = struct.unpack(">I", file.read(4))
    file.seek(colour_mode_bytes, os.SEEK_CUR)
    (resource_bytes,) = struct.unpack(">I", file.read(4))
    end = file.tell() + resource_bytes
    for _ in range(_MAX_RESOURCES):
        if file.tell() >= end:
            break
        _, number, name_bytes = struct.unpack(">4sHB", file.read(7))
        # A name and its length have an even number of bytes together, and so has the content.
        file.seek(name_bytes + (name_bytes + 1) % 2, os.SEEK_CUR)
        (size,) = struct.unpack(">I", file.read(4))
        if number == wanted:
            return file.read(size) if size <= MAX_BYTES else b""
        file.seek(size + size % 2, os.SEEK_CUR)
    return b""
