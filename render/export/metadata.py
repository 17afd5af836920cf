"""Metadata of a picture file: title, author, program, settings and colour profile.

All of it is in an XMP packet, which every format supports and every cataloguing program reads, and in the format's own
fields (PNG text, EXIF) for other programs.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape

import pyvips
from PIL import Image, ImageCms

from render.errors import UserError
from render.export.panorama import panorama_properties
from render.export.xmp import read_description
from render.export.xmp_search import find_packet
from render.geometry.units import MM_PER_INCH
from render.source.loaders import EXIF_FIELD, ICC_FIELD, XMP_FIELD, open_stream
from render.system.paths import APPLICATION
from render.system.version import __version__

#: Tags ImageDescription, Software and Artist (EXIF 2.32, 4.6.4).
_EXIF_DESCRIPTION, _EXIF_SOFTWARE, _EXIF_ARTIST = 0x010E, 0x0131, 0x013B
#: Resolution of files without a physical size: formats need a number, and this one is customary.
_SCREEN_DPI = 72.0
#: Largest EXIF block or XMP packet in a JPEG, bytes: a segment has at most 65,533, its name included.
_MAX_SEGMENT_BYTES = 65_000
#: Greatest depth of nested mappings and lists in settings; those of this program have about five.
_MAX_DEPTH = 64
#: From here on libvips takes an EXIF text for its own remark and drops it.
_REMARK_START = " ("
#: Characters that XML 1.0 does not allow.
_NOT_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
#: Namespaces of XMP that only some pictures use, by their usual prefix.
_NAMESPACES = {
    "GPano": "http://ns.google.com/photos/1.0/panorama/",
    "pdf": "http://ns.adobe.com/pdf/1.3/",
    "pdfxid": "http://www.npes.org/pdfx/ns/id/",
    "xmpMM": "http://ns.adobe.com/xap/1.0/mm/",
}
_PACKET = """\
<?xpacket begin="" id="W5M0MpCehiHzreSzNTczkc9d"?>
<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">
<rdf:Description rdf:about="" xmlns:dc="http://purl.org/dc/elements/1.1/" xmlns:xmp="http://ns.adobe.com/xap/1.0/"\
{namespaces}>
<xmp:CreatorTool>{software}</xmp:CreatorTool>
{elements}</rdf:Description></rdf:RDF></x:xmpmeta>
<?xpacket end="r"?>"""


@cache
def srgb_profile() -> bytes:
    """Return an sRGB ICC profile whose bytes do not depend on the date."""
    profile = bytearray(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    # ICC.1:2022, table 17: date and time of creation are bytes 24 to 35 of the header.
    profile[24:36] = bytes.fromhex("07e000010001000000000000")
    return bytes(profile)


@dataclass(frozen=True)
class Metadata:
    """Metadata of a picture.

    Attributes:
        settings: Settings that made the picture; they are stored as JSON.
        title: Title of the picture.
        author: Its author.
        dpi: Resolution in print; None for 72, a screen's.
        profile: ICC profile of its colours; None for colours of a device that it does not name.
    """

    settings: Mapping[str, Any] | None = None
    title: str | None = None
    author: str | None = None
    dpi: float | None = None
    profile: bytes | None = field(default_factory=srgb_profile)

    @property
    def software(self) -> str:
        """Name and version of this program."""
        return f"{APPLICATION} {__version__}"

    @property
    def description(self) -> str | None:
        """The settings as JSON text; None without settings."""
        return None if self.settings is None else json.dumps(self.settings, sort_keys=True)

    def packet(self, properties: Mapping[str, str] | None = None) -> bytes:
        """Return the XMP packet (ISO 16684-1): title, creator, description and program.

        Args:
            properties: Further simple properties, by name with prefix, such as `pdf:Trapped`.
        """
        elements = "".join(f"<{name}>{escape(text)}</{name}>\n" for name, text in (properties or {}).items())
        for name, text, kind, language in (
            ("title", self.title, "Alt", ' xml:lang="x-default"'),
            ("creator", self.author, "Seq", ""),
            ("description", self.description, "Alt", ' xml:lang="x-default"'),
        ):
            if text is not None:
                item = f"<rdf:{kind}><rdf:li{language}>{escape(xml_text(text))}</rdf:li></rdf:{kind}>"
                elements += f"<dc:{name}>{item}</dc:{name}>\n"
        prefixes = sorted({name.partition(":")[0] for name in properties or {}} & _NAMESPACES.keys())
        namespaces = "".join(f' xmlns:{prefix}="{_NAMESPACES[prefix]}"' for prefix in prefixes)
        packet = _PACKET.format(software=escape(self.software), elements=elements, namespaces=namespaces)
        # In ASCII, with character references: not every format's text is UTF-8.
        return packet.encode("ascii", "xmlcharrefreplace")


def xml_text(text: str) -> str:
    """Return a text without the characters that XML 1.0 does not allow."""
    return _NOT_XML.sub("", text)


def with_metadata(image: pyvips.Image, metadata: Metadata, format_name: str) -> pyvips.Image:
    """Return the image with all metadata in the fields of its format.

    Args:
        image: Image without metadata.
        metadata: Metadata to be written.
        format_name: png, jpeg, webp, tiff or bigtiff.

    Raises:
        ValueError: the metadata does not fit into a JPEG.
    """
    packet = metadata.packet(panorama_properties(metadata.settings, (image.height, image.width)))
    dots_per_mm = (metadata.dpi or _SCREEN_DPI) / MM_PER_INCH
    annotated = image.copy(xres=dots_per_mm, yres=dots_per_mm)
    if metadata.profile is not None:
        annotated.set_type(pyvips.GValue.blob_type, ICC_FIELD, metadata.profile)
    annotated.set_type(pyvips.GValue.blob_type, XMP_FIELD, packet)
    if format_name in ("jpeg", "webp"):
        exif = _exif(metadata)
        if format_name == "jpeg" and max(len(exif), len(packet)) > _MAX_SEGMENT_BYTES:
            raise ValueError(f"a JPEG has no room for settings of {len(packet):,} bytes")
        annotated.set_type(pyvips.GValue.blob_type, EXIF_FIELD, exif)
    elif format_name == "png":
        texts = {"Software": metadata.software, "Title": metadata.title, "Author": metadata.author}
        texts["Description"] = metadata.description
        # libvips writes UTF-8 where PNG expects Latin-1; texts that are not ASCII are in XMP only.
        plain = {key: text for key, text in texts.items() if text and text.isascii() and text.isprintable()}
        for number, (key, text) in enumerate(plain.items()):
            annotated.set_type(pyvips.GValue.gstr_type, f"png-comment-{number}-{key}", text)
    elif metadata.description is not None:
        annotated.set_type(pyvips.GValue.gstr_type, "image-description", metadata.description)
    return annotated


def _exif(metadata: Metadata) -> bytes:
    """Return the EXIF block: program, author and settings."""
    exif = Image.Exif()
    exif[_EXIF_SOFTWARE] = metadata.software
    if metadata.author and metadata.author.isascii() and _REMARK_START not in metadata.author:
        exif[_EXIF_ARTIST] = metadata.author
    if metadata.description is not None:
        # In JSON it can only be within a string, where an escape has the same meaning.
        exif[_EXIF_DESCRIPTION] = metadata.description.replace(_REMARK_START, " \\u0028")
    return exif.tobytes()


def says_its_settings(path: Path) -> bool:
    """Return whether a path is a picture file, and no link, with settings of this program."""
    try:
        return path.is_file() and not path.is_symlink() and bool(read_settings(path))
    except OSError:
        return False


def read_settings(path: Path) -> dict[str, Any]:
    """Return the settings inside a picture file of this program; empty if there are none.

    No pixel is decoded.

    Raises:
        OSError: the file cannot be read, or is no picture.
    """
    try:
        packet = find_packet(path)
        if packet is None:
            image = open_stream(path)
            packet = image.get(XMP_FIELD) if image.get_typeof(XMP_FIELD) else b""
    except UserError as error:
        raise OSError(f"it {str(error).removeprefix(f'image {str(path)!r} ')}") from None
    except pyvips.Error as error:
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        raise OSError(f"it is no picture ({lines[-1] if lines else 'damaged'})") from None
    try:
        settings = json.loads(read_description(packet) or "{}")
    except (ValueError, RecursionError):
        # It is the description of another program.
        return {}
    return settings if isinstance(settings, dict) and _is_shallow(settings) else {}


def _is_shallow(settings: Any) -> bool:
    """Return whether values are nested at most `_MAX_DEPTH` deep."""
    nested = [settings]
    for _ in range(_MAX_DEPTH):
        nested = [part for value in nested if isinstance(value, dict | list) for part in _parts(value)]
        if not nested:
            return True
    return False


def _parts(value: dict[str, Any] | list[Any]) -> Iterable[Any]:
    """Return the values in a mapping or list."""
    return value.values() if isinstance(value, dict) else value
