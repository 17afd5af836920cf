"""Objects of a PDF, written to a file from front to back (ISO 32000-1, 7.3 and 7.5).

What is written is not kept: a picture of any size passes through.
"""

from __future__ import annotations

import re
import struct
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import IO, Any

#: PDF/X-4 is a kind of PDF 1.6. The bytes of the second line tell programs that the file is not text.
_HEADER = b"%PDF-1.6\n%\xe2\xe3\xcf\xd3\n"
#: Bytes of a name that are written as they are (7.3.5).
_REGULAR = re.compile(rb"[A-Za-z0-9_.+:-]")
#: Entry of an object in the list of offsets: its kind, its offset and its generation (7.5.8.3).
_ENTRY, _ENTRY_WIDTHS = ">BQH", (1, 8, 2)
_FREE, _IN_USE = 0, 1


class PdfName(str):
    """A name, such as `DeviceRGB`."""

    __slots__ = ()


@dataclass(frozen=True)
class PdfReference:
    """Reference to an object by its number, which counts from 1."""

    number: int


def encoded(value: Any) -> bytes:
    """Return a value as PDF writes it.

    Args:
        value: None, a bool, number, text, `PdfName`, `PdfReference`, bytes (a byte string), or a list or mapping of these.
    """
    match value:
        case None:
            return b"null"
        case bool():
            return b"true" if value else b"false"
        case int():
            return b"%d" % value
        case float():
            # A sum of zero turns -0 into 0.
            return f"{round(value, 6) + 0.0:.6f}".rstrip("0").rstrip(".").encode()
        case PdfName():
            return b"/" + b"".join(
                byte if _REGULAR.match(byte) else b"#" + byte.hex().encode() for byte in _bytes_of(value)
            )
        case PdfReference():
            return b"%d 0 R" % value.number
        case str():
            return encoded(_text_bytes(value))
        case bytes():
            return b"<" + value.hex().encode() + b">"
        case Mapping():
            return b"<< " + b" ".join(encoded(PdfName(key)) + b" " + encoded(part) for key, part in value.items()) + b" >>"
        case _:
            return b"[" + b" ".join(map(encoded, value)) + b"]"


def _bytes_of(name: str) -> Iterator[bytes]:
    """Yield the bytes of a name, one by one."""
    return (bytes((byte,)) for byte in name.encode())


def _text_bytes(text: str) -> bytes:
    """Return a text string: ASCII, or else UTF-16 with a byte order mark (7.9.2.2)."""
    return text.encode() if text.isascii() else b"\xfe\xff" + text.encode("utf-16-be", "replace")


class PdfWriter:
    """Writer of numbered objects and, at the end, of the list of their offsets."""

    def __init__(self, file: IO[bytes]) -> None:
        """Begin a PDF.

        Args:
            file: The empty file.
        """
        self._file = file
        self._position = 0
        #: Offsets of the objects, by their numbers from 1 on; None until an object is written.
        self._offsets: list[int | None] = []
        self._write(_HEADER)

    def reserve(self) -> PdfReference:
        """Return the number of an object that is written later."""
        self._offsets.append(None)
        return PdfReference(len(self._offsets))

    def add(self, value: Any, reference: PdfReference | None = None) -> PdfReference:
        """Write an object; return its number, which is `reference` if that was reserved for it."""
        reference = self._begin(reference)
        self._write(encoded(value) + b"\nendobj\n")
        return reference

    def add_stream(self, entries: Mapping[str, Any], content: bytes, *, compress: bool = False) -> PdfReference:
        """Write a stream of known content; return its number.

        Args:
            entries: Entries of its dictionary, without its length and filter.
            content: Its bytes.
            compress: True to compress them.
        """
        if compress:
            entries, content = {**entries, "Filter": PdfName("FlateDecode")}, zlib.compress(content, 9)
        reference = self._begin(None)
        self._write(encoded({**entries, "Length": len(content)}) + b"\nstream\n" + content + b"\nendstream\nendobj\n")
        return reference

    @contextmanager
    def stream(self, entries: Mapping[str, Any]) -> Iterator[tuple[PdfReference, Callable[[bytes], None]]]:
        """Write a stream whose length is known only afterwards.

        Yield its number and the function that writes its bytes.
        """
        length = self.reserve()
        reference = self._begin(None)
        self._write(encoded({**entries, "Length": length}) + b"\nstream\n")
        start = self._position
        yield reference, self._write
        stop = self._position
        self._write(b"\nendstream\nendobj\n")
        self.add(stop - start, length)

    def finish(self, root: PdfReference, info: PdfReference, identifier: bytes) -> None:
        """End the file with the offsets of all objects, as a cross-reference stream (7.5.8).

        Offsets have 64 bits there, so the file may be of any size.

        Args:
            root: The catalog.
            info: The information dictionary.
            identifier: 16 bytes that identify the file.
        """
        start = self._position
        reference = self._begin(None)
        lines = [struct.pack(_ENTRY, _FREE, 0, 0xFFFF)]
        for offset in self._offsets:
            assert offset is not None, "a reserved object was not written"
            lines.append(struct.pack(_ENTRY, _IN_USE, offset, 0))
        content = zlib.compress(b"".join(lines), 9)
        entries = {
            "Type": PdfName("XRef"),
            "Size": len(lines),
            "W": _ENTRY_WIDTHS,
            "Root": root,
            "Info": info,
            "ID": [identifier, identifier],
            "Filter": PdfName("FlateDecode"),
            "Length": len(content),
        }
        assert reference.number == len(self._offsets)
        self._write(encoded(entries) + b"\nstream\n" + content + b"\nendstream\nendobj\n")
        self._write(b"startxref\n%d\n%%%%EOF\n" % start)

    def _begin(self, reference: PdfReference | None) -> PdfReference:
        """Begin an object; return its number."""
        reference = reference or self.reserve()
        self._offsets[reference.number - 1] = self._position
        self._write(b"%d 0 obj\n" % reference.number)
        return reference

    def _write(self, content: bytes) -> None:
        self._file.write(content)
        self._position += len(content)
