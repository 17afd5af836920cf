"""ICC profiles that a picture can be converted to when it is exported."""

from __future__ import annotations

import hashlib
import io
from dataclasses import dataclass

import pyvips
from PIL import ImageCms

from render.errors import UserError
from render.export.metadata import srgb_profile
from render.source.loaders import ICC_FIELD
from render.storage.user_paths import input_path
from render.system.reading import read_regular

#: Largest ICC profile, bytes: those of presses, with fine tables, have a few million.
_MAX_PROFILE_BYTES = 64 << 20
#: Profiles that libvips has built in.
_LIBVIPS_PROFILES = ("p3", "cmyk")
#: Names of profiles that are not files.
BUILT_IN = ("srgb", *_LIBVIPS_PROFILES)
#: Channels by the data colour space of a profile (ICC.1:2022, table 19).
_CHANNELS = {"RGB": 3, "CMYK": 4, "GRAY": 1}
#: Device classes of profiles that a picture can be in: output, display, colour space (ICC.1:2022, 7.2.5).
_DEVICE_CLASSES = ("prtr", "mntr", "spac")


@dataclass(frozen=True)
class Profile:
    """An ICC profile.

    Attributes:
        content: Bytes of the profile; None for sRGB, the canvas' own space.
        space: Data colour space: RGB, CMYK or GRAY.
    """

    content: bytes | None = None
    space: str = "RGB"

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
    def sha256(self) -> str | None:
        """Digest of the content; None for sRGB."""
        return None if self.content is None else hashlib.sha256(self.content).hexdigest()


def read_profile(name: str | None) -> Profile:
    """Return the profile that `output.profile` names.

    Args:
        name: None or `srgb`, `p3` or `cmyk` of libvips, or the path of an .icc file.

    Raises:
        UserError: the file cannot be read, or is no profile of RGB, CMYK or grey.
    """
    if name is None or name == "srgb":
        return Profile()
    try:
        content = (
            pyvips.Image.profile_load(name)
            if name in _LIBVIPS_PROFILES
            else read_regular(input_path(name, "output.profile"), _MAX_PROFILE_BYTES)
        )
    except OSError as error:
        raise UserError(f"output.profile={name}: {error.strerror} (srgb, p3, cmyk, or a path to an .icc file)") from None
    try:
        profile = ImageCms.ImageCmsProfile(io.BytesIO(content)).profile
        space, device_class = profile.xcolor_space.strip(), profile.device_class.strip()
    except (OSError, UnicodeDecodeError):
        # UnicodeDecodeError: Pillow decodes the profile's signatures of four letters as ASCII, whatever they hold.
        raise UserError(f"output.profile={name}: it is no ICC profile") from None
    if space not in _CHANNELS or device_class not in _DEVICE_CLASSES:
        raise UserError(
            f"output.profile={name}: a profile of {space} for {device_class} cannot be written: take RGB, CMYK or grey"
        )
    return Profile(content, space)


def convert(image: pyvips.Image, profile: Profile, bits: int) -> pyvips.Image:
    """Convert an sRGB image to another profile's colours; with sRGB it is returned unchanged.

    The intent is relative colorimetric with black point compensation, as prints are made. The conversion goes through Lab
    in 16 bits, because a single conversion by libvips uses a coarser table.

    Args:
        image: sRGB image of 16 bits.
        profile: Profile of the result.
        bits: Bits of a channel of the result, 8 or 16.
    """
    if profile.content is None:
        return image
    image.set_type(pyvips.GValue.blob_type, ICC_FIELD, srgb_profile())
    lab = image.icc_import(embedded=True, pcs="lab", intent="relative", black_point_compensation=True)
    lab.set_type(pyvips.GValue.blob_type, ICC_FIELD, profile.content)
    return lab.icc_export(depth=bits, intent="relative", black_point_compensation=True)
