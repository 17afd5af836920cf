"""ICC profiles that a picture can be converted to when it is exported."""

from __future__ import annotations

import hashlib
import io
from dataclasses import dataclass

import pyvips
from PIL import ImageCms

from render.canvas.image import UINT16_PER_LEVEL
from render.config.schema import RELATIVE
from render.errors import UserError
from render.export.device_link import convert_by_link
from render.export.metadata import srgb_profile
from render.source.loaders import ICC_FIELD
from render.storage.user_paths import input_path
from render.system.reading import read_regular

#: Largest ICC profile, bytes: those of presses, with fine tables, have a few million.
_MAX_PROFILE_BYTES = 64 << 20
#: Profiles that libvips has built in.
GENERIC_CMYK = "cmyk"
_LIBVIPS_PROFILES = ("p3", GENERIC_CMYK)
#: Names of profiles that are not files.
BUILT_IN = ("srgb", *_LIBVIPS_PROFILES)
#: Channels by the data colour space of a profile (ICC.1:2022, table 19).
_CHANNELS = {"RGB": 3, "CMYK": 4, "GRAY": 1}
#: Device classes of profiles that a picture can be in: output, display, colour space (ICC.1:2022, 7.2.5).
_DEVICE_CLASSES = ("prtr", "mntr", "spac")
#: Class of device links.
_LINK = "link"
#: Other classes, in words (ICC.1:2022, 7.2.5).
_OTHER_CLASSES = {
    "scnr": "an input profile, of a scanner or camera",
    "abst": "an abstract profile",
    "nmcl": "a profile of named colours",
}


@dataclass(frozen=True)
class Profile:
    """An ICC profile.

    Attributes:
        content: Bytes of the profile; None for sRGB, the canvas' own space.
        space: Data colour space: RGB, CMYK or GRAY.
        is_link: True for a device link from sRGB to CMYK: a conversion, and no profile that a picture can be in.
    """

    content: bytes | None = None
    space: str = "RGB"
    is_link: bool = False

    @property
    def is_srgb(self) -> bool:
        """True if no conversion is needed."""
        return self.content is None

    @property
    def channels(self) -> int:
        """Number of channels of a picture in this profile."""
        return _CHANNELS[self.space]

    @property
    def icc(self) -> bytes:
        """Bytes of the profile, also of sRGB's."""
        return self.content or srgb_profile()

    @property
    def embedded(self) -> bytes | None:
        """Bytes of the profile that pictures carry; None for a device link."""
        return None if self.is_link else self.icc

    @property
    def sha256(self) -> str | None:
        """Digest of the content; None for sRGB."""
        return None if self.content is None else hashlib.sha256(self.content).hexdigest()


def read_profile(name: str | None, key: str = "output.profile") -> Profile:
    """Return the profile that a key names.

    Args:
        name: None or `srgb`, `p3` or `cmyk` of libvips, or the path of an .icc file. A device link from sRGB to CMYK is
            taken, too.
        key: The key, for messages.

    Raises:
        UserError: the file cannot be read, or is no profile of RGB, CMYK or grey.
    """
    if name is None or name == "srgb":
        return Profile()
    try:
        content = (
            pyvips.Image.profile_load(name)
            if name in _LIBVIPS_PROFILES
            else read_regular(input_path(name, key), _MAX_PROFILE_BYTES)
        )
    except OSError as error:
        raise UserError(f"{key}={name}: {error.strerror} (srgb, p3, cmyk, or a path to an .icc file)") from None
    try:
        profile = ImageCms.ImageCmsProfile(io.BytesIO(content)).profile
        space, device_class = profile.xcolor_space.strip(), profile.device_class.strip()
        target = profile.connection_space.strip()
    except (OSError, UnicodeDecodeError):
        # UnicodeDecodeError: Pillow decodes the profile's signatures of four letters as ASCII, whatever they hold.
        raise UserError(f"{key}={name}: it is no ICC profile") from None
    if device_class == _LINK:
        if (space, target) != ("RGB", "CMYK"):
            raise UserError(f"{key}={name}: a device link from {space} to {target}: take one from sRGB to CMYK")
        return _usable(Profile(content, target, is_link=True), name, key)
    if device_class not in _DEVICE_CLASSES:
        kind = _OTHER_CLASSES.get(device_class, f"a profile of class {device_class}")
        raise UserError(
            f"{key}={name}: {kind}, which no picture can be in: take the profile of a press, printer or display"
        )
    if space not in _CHANNELS:
        raise UserError(f"{key}={name}: a profile of {space}, which no format holds: take RGB, CMYK or grey")
    return _usable(Profile(content, space), name, key)


def _usable(profile: Profile, name: str, key: str) -> Profile:
    """Return a profile by which a pixel can be converted. Raise `UserError` for a damaged one."""
    pixel = (pyvips.Image.black(1, 1, bands=3) + 32768).cast("ushort").copy(interpretation="rgb16")
    try:
        convert(pixel, profile, 8).avg()
    except pyvips.Error as error:
        reason = [line for line in str(error).splitlines() if line.strip()][-1]
        raise UserError(f"{key}={name}: no colour can be converted by it ({reason.strip()})") from None
    return profile


def convert(
    image: pyvips.Image, profile: Profile, bits: int, intent: str = RELATIVE, space: bytes | None = None
) -> pyvips.Image:
    """Convert an image to another profile's colours; with sRGB it is returned unchanged.

    The conversion goes through Lab in 16 bits, because a single conversion by libvips uses a coarser table.

    Args:
        image: RGB image of 16 bits.
        profile: Profile of the result.
        bits: Bits of a channel of the result, 8 or 16.
        intent: One of `INTENTS`. The relative one, by which prints are made, compensates for black points.
        space: Profile of the image; None for sRGB.
    """
    if profile.content is None:
        return image
    if space == profile.content:
        return image if bits == 16 else (image / UINT16_PER_LEVEL).rint().cast("uchar").copy(interpretation="srgb")
    if profile.is_link:
        return convert_by_link(image, profile.content, bits)
    image.set_type(pyvips.GValue.blob_type, ICC_FIELD, space or srgb_profile())
    # The canvas itself has one white, that of sRGB: only the export knows intents.
    lab = image.icc_import(embedded=True, pcs="lab", intent=RELATIVE, black_point_compensation=True)
    lab.set_type(pyvips.GValue.blob_type, ICC_FIELD, profile.content)
    return lab.icc_export(depth=bits, intent=intent, black_point_compensation=intent == RELATIVE)
