"""Facts of an ICC profile inside a picture: its device class, its colours and its name (ICC.1:2022, 7.2)."""

from __future__ import annotations

import io
from dataclasses import dataclass

from PIL import ImageCms

#: Bytes of a profile's header, and its signature at byte 36.
_HEADER_BYTES, _SIGNATURE = 128, b"acsp"
#: Classes of devices whose colours a finished picture can be in: display, output, colour space.
PICTURE_CLASSES = ("mntr", "prtr", "spac")
#: Names of the classes that no finished picture can be in, for messages.
CLASS_NAMES = {"scnr": "input", "link": "device link", "abst": "abstract", "nmcl": "named colour"}


@dataclass(frozen=True)
class IccFacts:
    """Facts of an ICC profile.

    Attributes:
        device_class: Four letters, such as `mntr` for a display.
        space: Data colour space without blanks, such as `RGB`, `CMYK` or `GRAY`.
        name: Its description; None if the profile cannot be read beyond its header.
    """

    device_class: str
    space: str
    name: str | None


def read_icc(content: bytes | None) -> IccFacts | None:
    """Return the facts of a profile; None if there is none, or if it has no header of a profile."""
    if content is None or len(content) < _HEADER_BYTES or content[36:40] != _SIGNATURE:
        return None
    return IccFacts(_letters(content[12:16]), _letters(content[16:20]), _name(content))


def _letters(signature: bytes) -> str:
    return signature.decode("ascii", "replace").strip()


def _name(content: bytes) -> str | None:
    try:
        profile = ImageCms.ImageCmsProfile(io.BytesIO(content))
        return ImageCms.getProfileDescription(profile).strip() or "without a name"
    except (OSError, ImageCms.PyCMSError):
        return None
