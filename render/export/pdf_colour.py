"""Colours of a PDF/X-4 file: the printing condition that it is made for."""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import Any

from PIL import ImageCms

from render.export.printer_profile import NAME, srgb_printer_profile
from render.export.profile import Profile, read_profile

#: PDF's colour spaces of devices, by the colour space of a profile.
_DEVICE_SPACES = {"RGB": "DeviceRGB", "CMYK": "DeviceCMYK", "GRAY": "DeviceGray"}
#: Class of the profiles of printers and presses (ICC.1:2022, 7.2.5): PDF/X allows no other as the intent.
_PRINTER = "prtr"


@dataclass(frozen=True)
class PrintingCondition:
    """The press, and the paper, that a file is made for.

    Attributes:
        profile: Its profile.
        name: Its name.
        is_pictures_own: True if the picture is in its colours already.
    """

    profile: Profile
    name: str
    is_pictures_own: bool


def device_space(profile: Profile) -> str:
    """Return the name of the device colour space with a profile's channels."""
    return _DEVICE_SPACES[profile.space]


def printing_condition(profile: Profile) -> PrintingCondition:
    """Return the printing condition of a picture in a profile's colours.

    That is the profile's own press. The profile of a screen has none: such a picture keeps its colours and its profile, to
    be converted by the print shop, and the file is for a printer that takes sRGB, or of CMYK for the press
    that libvips has a profile of.
    """
    opened = ImageCms.ImageCmsProfile(io.BytesIO(profile.icc)).profile
    if opened.device_class.strip() == _PRINTER:
        return PrintingCondition(profile, _description(opened), is_pictures_own=True)
    if profile.space == "CMYK":
        generic = read_profile("cmyk")
        name = _description(ImageCms.ImageCmsProfile(io.BytesIO(generic.icc)).profile)
        return PrintingCondition(generic, name, is_pictures_own=False)
    return PrintingCondition(Profile(srgb_printer_profile()), NAME, is_pictures_own=False)


def _description(opened: Any) -> str:
    """Return the name of a profile, as littleCMS opens it, in the printable ASCII that output intents want."""
    text = "".join(letter for letter in opened.profile_description or "" if letter.isascii() and letter.isprintable())
    return text.strip() or "Custom"
