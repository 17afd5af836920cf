"""PDF/X-4 files (ISO 15930-7), for print shops that take nothing else."""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from render.canvas.image import CanvasImage
from render.export.metadata import Metadata, xml_text
from render.export.pdf_colour import PrintingCondition, device_space, printing_condition
from render.export.pdf_images import PlacedImage, write_images
from render.export.pdf_objects import PdfName, PdfReference, PdfWriter, encoded
from render.export.pdf_sheets import Box, Sheet
from render.export.picture import Encoding, picture_file
from render.export.profile import Profile

#: Date of every file, because PDF/X wants one and the same dream must have the same bytes: in XMP and in PDF.
_XMP_DATE, _PDF_DATE = "2016-01-01T00:00:00Z", "D:20160101000000Z"
#: Width of the lines of marks, points.
_MARK_WIDTH = 0.25
#: Marks are on every plate of a press: colour space `All` (ISO 32000-1, 8.6.6.4), shown as black on screens.
_MARK_COLOUR = [
    PdfName("Separation"), PdfName("All"), PdfName("DeviceGray"),
    {"FunctionType": 2, "Domain": [0, 1], "C0": [1], "C1": [0], "N": 1},
]  # fmt: skip


@dataclass(frozen=True)
class PrintFile:
    """Content of a PDF.

    Attributes:
        picture: The whole print, which need not be read in order.
        sheets: Its pages.
        profile: Profile of its colours.
        metadata: Metadata of the file.
        encoding: JPEG if its compression is `jpeg`, else without loss.
    """

    picture: CanvasImage
    sheets: Sequence[Sheet]
    profile: Profile
    metadata: Metadata
    encoding: Encoding


def write_pdf(path: Path, content: PrintFile, *, keep: bool = False) -> None:
    """Write a print as a PDF/X-4 file. The same content gives the same bytes.

    Args:
        path: The file; it gets this name only when it is complete.
        content: Content of the file.
        keep: True to raise `UserError` instead of replacing an existing file.

    Raises:
        UserError: The file cannot be written.
        DamagedCheckpoint: The canvas cannot be read.
    """
    with picture_file(path, "pdf", content.picture.check, keep=keep) as file:
        _write(PdfWriter(file), content)


def _write(writer: PdfWriter, content: PrintFile) -> None:
    """Write all objects: the pages, then what the file says of itself."""
    condition = printing_condition(content.profile)
    # Data of the printing condition itself are in its own colours, all others in those of their profile.
    colour_space: Any = PdfName(device_space(content.profile))
    intent_profile = _add_profile(writer, condition.profile)
    if not condition.is_pictures_own:
        colour_space = writer.add([PdfName("ICCBased"), _add_profile(writer, content.profile)])
    tree = writer.reserve()
    pages = [_add_page(writer, tree, content, sheet, colour_space) for sheet in content.sheets]
    writer.add({"Type": PdfName("Pages"), "Kids": pages, "Count": len(pages)}, tree)
    metadata = _with_title(content.metadata)
    identifier = hashlib.sha256(metadata.packet() + content.profile.icc).digest()[:16]
    info = writer.add(_information(metadata))
    catalog: dict[str, Any] = {
        "Type": PdfName("Catalog"),
        "Pages": tree,
        "ViewerPreferences": {"DisplayDocTitle": True},
        "OutputIntents": [_intent(condition, intent_profile)],
    }
    names = [sheet.name for sheet in content.sheets]
    if any(names):
        labels = [part for number, name in enumerate(names) for part in (number, {"P": name or ""})]
        catalog["PageLabels"] = {"Nums": labels}
    packet = metadata.packet(_identification(metadata, identifier))
    catalog["Metadata"] = writer.add_stream({"Type": PdfName("Metadata"), "Subtype": PdfName("XML")}, packet)
    writer.finish(writer.add(catalog), info, identifier)


def _add_page(writer: PdfWriter, tree: PdfReference, content: PrintFile, sheet: Sheet, colour_space: Any) -> PdfReference:
    """Write a page with its images; return its number."""
    images = write_images(writer, content.picture, sheet.rect, colour_space, content.encoding)
    names = [PdfName(f"Part{number}") for number in range(1, len(images) + 1)]
    resources: dict[str, Any] = {
        "XObject": {name: image.reference for name, image in zip(names, images, strict=True)},
    }
    if sheet.has_marks:
        resources["ColorSpace"] = {"All": _MARK_COLOUR}
    return writer.add(
        {
            "Type": PdfName("Page"),
            "Parent": tree,
            "MediaBox": sheet.media,
            "BleedBox": sheet.bleed,
            "TrimBox": sheet.trim,
            "Resources": resources,
            "Contents": writer.add_stream({}, _drawing(sheet, images, names)),
        }
    )


def _drawing(sheet: Sheet, images: Sequence[PlacedImage], names: Sequence[str]) -> bytes:
    """Return the content of a page: its images in their places, and its marks."""
    lines = []
    for image, name in zip(images, names, strict=True):
        box: Box = sheet.box_of(image.rect)
        matrix = _numbers(box.size[0], 0.0, 0.0, box.size[1], box.left, box.bottom)
        lines.append(f"q {matrix} cm /{name} Do Q")
    marks = [f"{_numbers(x, y)} m {_numbers(to_x, to_y)} l S" for x, y, to_x, to_y in sheet.marks()]
    if marks:
        lines += [f"q /All CS 1 SCN {_numbers(_MARK_WIDTH)} w", *marks, "Q"]
    return "\n".join(lines).encode()


def _numbers(*values: float) -> str:
    """Return numbers as a page's content has them."""
    return b" ".join(map(encoded, values)).decode()


def _add_profile(writer: PdfWriter, profile: Profile) -> PdfReference:
    """Write an ICC profile; return its number."""
    entries = {"N": profile.channels, "Alternate": PdfName(device_space(profile))}
    return writer.add_stream(entries, profile.icc, compress=True)


def _intent(condition: PrintingCondition, profile: PdfReference) -> Mapping[str, Any]:
    """Return the output intent of a file for a printing condition."""
    return {
        "Type": PdfName("OutputIntent"),
        "S": PdfName("GTS_PDFX"),
        "OutputConditionIdentifier": "Custom",
        "OutputCondition": condition.name,
        "Info": condition.name,
        "DestOutputProfile": profile,
    }


def _with_title(metadata: Metadata) -> Metadata:
    """Return metadata with the title that PDF/X wants, without characters that XMP does not hold."""
    title = metadata.title or str((metadata.settings or {}).get("name") or "Untitled")
    author = None if metadata.author is None else xml_text(metadata.author)
    return replace(metadata, title=xml_text(title), author=author)


def _information(metadata: Metadata) -> dict[str, Any]:
    """Return the information dictionary, which agrees with the XMP packet."""
    information: dict[str, Any] = {
        "Title": metadata.title,
        "Creator": metadata.software,
        "Producer": metadata.software,
        "CreationDate": _PDF_DATE,
        "ModDate": _PDF_DATE,
        "Trapped": PdfName("False"),
    }
    return information if metadata.author is None else {**information, "Author": metadata.author}


def _identification(metadata: Metadata, identifier: bytes) -> dict[str, str]:
    """Return the properties of the XMP packet by which a file is PDF/X-4."""
    return {
        "pdfxid:GTS_PDFXVersion": "PDF/X-4",
        "pdf:Producer": metadata.software,
        "pdf:Trapped": "False",
        "xmp:CreateDate": _XMP_DATE,
        "xmp:ModifyDate": _XMP_DATE,
        "xmp:MetadataDate": _XMP_DATE,
        "dc:format": "application/pdf",
        "xmpMM:DocumentID": uuid.UUID(bytes=identifier).urn,
        "xmpMM:VersionID": "1",
        "xmpMM:RenditionClass": "default",
    }
