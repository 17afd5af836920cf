"""TIFF files made by hand: their directory comes first, and every tag and tile is as a test wants it."""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import tifffile

_LETTERS = {1: "B", 2: "s", 3: "H", 4: "I", 5: "II", 7: "s", 12: "d", 16: "Q"}
Tags = Mapping[int, tuple[int, Any]]


@dataclass
class Page:
    """Tags by number, (type, values), and encoded tiles or strips; None for a tile that is left out."""

    tags: dict[int, tuple[int, Any]]
    chunks: Sequence[bytes | None]
    children: Sequence[Page] = ()
    links: dict[int, Page] = field(default_factory=dict)


def tags(
    width: int, height: int, bits: int, samples: int, photometric: int, *, compression: int = 1, **more: Any
) -> dict[int, tuple[int, Any]]:
    """The tags of a picture in one strip, or in tiles where `tile` is a side; `extra` and `planar` as the tags are."""
    made = {
        **{256: (4, [width]), 257: (4, [height]), 258: (3, [bits] * samples), 259: (3, [compression])},
        **{262: (3, [photometric]), 277: (3, [samples]), 284: (3, [more.get("planar", 1)])},
    }
    if "extra" in more:
        made[338] = (3, more["extra"])
    if "tile" in more:
        return {**made, 322: (3, [more["tile"]]), 323: (3, [more["tile"]])}
    return {**made, 278: (3, [height])}


def write(path: Path, *pages: Page, big: bool = False) -> None:
    """Writes a little-endian TIFF: all directories, then all pixels."""
    writer = _Writer(big)
    head = 16 if big else 8
    writer.chain(list(pages), head)
    content = struct.pack("<2sHHHQ", b"II", 43, 8, 0, head) if big else struct.pack("<2sHI", b"II", 42, head)
    path.write_bytes(content + bytes(writer.laid_out(head)))


def directory_first(source: Path, target: Path, *, big: bool = False) -> None:
    """Writes the first picture of a TIFF anew, its encoded tiles or strips as they are, with its directory first."""
    with tifffile.TiffFile(source) as file:
        page = file.pages[0]
        copied = {}
        for tag in page.tags.values():
            if tag.code in (273, 279, 324, 325, 330):
                continue
            file.filehandle.seek(tag.valueoffset)
            raw = file.filehandle.read(tag.valuebytecount)
            copied[tag.code] = (int(tag.dtype), raw)
        chunks = []
        for offset, count in zip(page.dataoffsets, page.databytecounts, strict=True):
            file.filehandle.seek(offset)
            chunks.append(file.filehandle.read(count))
    write(target, Page(copied, chunks), big=big)


class _Writer:
    """Lays out directories from an offset on, then what they point to."""

    def __init__(self, big: bool) -> None:
        self._big = big
        self._parts: list[tuple[int, bytes]] = []
        #: Where it stands, behind each directory of the chain, where the next one begins.
        self._ends: list[int] = []
        self._end = 0

    def laid_out(self, head: int) -> bytearray:
        content = bytearray(self._end - head)
        for at, part in self._parts:
            content[at - head : at - head + len(part)] = part
        return content

    def chain(self, pages: list[Page], at: int) -> None:
        self._end = at
        waiting: list[tuple[int, bytes]] = []
        starts = [self._directory(page, waiting) for page in pages]
        # Where the next one begins stands behind the entries.
        for number, page_end in enumerate(self._ends):
            following = starts[number + 1] if number + 1 < len(starts) else 0
            self._parts.append((page_end, struct.pack("<Q" if self._big else "<I", following)))
        for position, chunk in waiting:
            self._parts.append((position, struct.pack("<Q" if self._big else "<I", self._end if chunk else 0)))
            if chunk:
                self._parts.append((self._end, chunk))
                self._end += len(chunk)

    def _directory(self, page: Page, waiting: list[tuple[int, bytes]], *, top: bool = True) -> int:
        width, letter, entry = (8, "Q", 20) if self._big else (4, "I", 12)
        tiled = 322 in page.tags
        places, counts = (324, 325) if tiled else (273, 279)
        entries: dict[int, tuple[int, Any]] = dict(page.tags)
        if page.chunks:
            entries[places] = (16 if self._big else 4, [0] * len(page.chunks))
            entries[counts] = (16 if self._big else 4, [len(chunk or b"") for chunk in page.chunks])
        if page.children:
            entries[330] = (16 if self._big else 4, [0] * len(page.children))
        for tag in page.links:
            entries[tag] = (16 if self._big else 4, [0])
        start = self._end
        head = 8 if self._big else 2
        self._end += head + entry * len(entries) + width
        if top:
            self._ends.append(self._end - width)
        made = struct.pack("<Q" if self._big else "<H", len(entries))
        fixups: dict[int, int] = {}
        for tag in sorted(entries):
            kind, values = entries[tag]
            content = values if isinstance(values, bytes) else struct.pack(f"<{_LETTERS[kind] * len(values)}", *values)
            size = struct.calcsize("<" + _LETTERS[kind])
            field_at = start + len(made) + 4 + width
            made += struct.pack(f"<HH{letter}", tag, kind, len(content) // size)
            if len(content) <= width:
                made += content.ljust(width, b"\0")
                fixups[tag] = field_at
            else:
                made += struct.pack(f"<{letter}", self._end)
                fixups[tag] = self._end
                self._parts.append((self._end, content))
                self._end += len(content)
        self._parts.append((start, made))
        if page.chunks:
            waiting.extend((fixups[places] + width * number, chunk or b"") for number, chunk in enumerate(page.chunks))
        hanging = [(fixups[330] + width * number, child) for number, child in enumerate(page.children)]
        hanging += [(fixups[tag], child) for tag, child in page.links.items()]
        for position, child in hanging:
            at = self._directory(child, waiting, top=False)
            self._parts.append((position, struct.pack("<Q" if self._big else "<I", at)))
            self._parts.append((at + head + entry * _entries(child), bytes(width)))
        return start


def _entries(page: Page) -> int:
    return len(page.tags) + 2 * bool(page.chunks) + bool(page.children) + len(page.links)
