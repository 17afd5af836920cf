"""ICC profiles that a picture can be converted to when it is exported."""

from __future__ import annotations

import hashlib
import io
from dataclasses import dataclass

import pyvips
from PIL import ImageCms

from render.errors import UserError
from render.export.metadata import srgb_profile
from render.storage.user_paths import input_path
from render.system.reading import read_regular

#: Most bytes of an ICC profile: those of presses, with fine tables, have a few million.
_LONGEST = 64 << 20
_SHIPPED = ("p3", "cmyk")
#: Names of profiles that are not files.
BUILT_IN = ("srgb", *_SHIPPED)
_CHANNELS = {"RGB": 3, "CMYK": 4, "GRAY": 1}
#: Classes of profiles for printing or showing a picture: output, display, colour space.
_CLASSES = ("prtr", "mntr", "spac")


@dataclass(frozen=True)
class Profile:
    """An ICC profile: `content` None stands for sRGB, the canvas' own."""

    content: bytes | None = None
    space: str = "RGB"

    @property
    def channels(self) -> int:
        return _CHANNELS[self.space]

    @property
    def icc(self) -> bytes:
        """The bytes of the profile."""
        return self.content or srgb_profile()

    @property
    def sha256(self) -> str | None:
        """Digest of the content; None for sRGB."""
        return None if self.content is None else hashlib.sha256(self.content).hexdigest()


def read_profile(name: str | None) -> Profile:
    """Return the profile for `output.profile`: null or `srgb`, libvips' own `p3` or `cmyk`, or an .icc file's path.

    Raises:
        UserError: it is no profile of RGB, CMYK or grey.
    """
    if name is None or name == "srgb":
        return Profile()
    try:
        content = (
            pyvips.Image.profile_load(name)
            if name in _SHIPPED
            else read_regular(input_path(name, "output.profile"), _LONGEST)
        )
    except OSError as error:
        raise UserError(f"output.profile={name}: {error.strerror} (srgb, p3, cmyk, or a path to an .icc file)") from None
    try:
        profile = ImageCms.ImageCmsProfile(io.BytesIO(content)).profile
        space, kind = profile.xcolor_space.strip(), profile.device_class.strip()
    except (OSError, UnicodeDecodeError):
        # Pillow decodes its four-letter signatures as ASCII, whatever they hold.
        raise UserError(f"output.profile={name}: it is no ICC profile") from None
    if space not in _CHANNELS or kind not in _CLASSES:
        raise UserError(f"output.profile={name}: a profile of {space} for {kind} cannot be written: take RGB, CMYK or grey")
    return Profile(content, space)


def converted(image: pyvips.Image, profile: Profile, bits: int) -> pyvips.Image:
    """Return an sRGB image of 16 bits in another profile's colours, with 8 or 16 bits a channel.

    Relative colorimetric with black point compensation, as prints are made. Two steps with 16 bits between them, because
    libvips rounds through a coarser table in a single one.
    """
    if profile.content is None:
        return image
    image.set_type(pyvips.GValue.blob_type, "icc-profile-data", srgb_profile())
    lab = image.icc_import(embedded=True, pcs="lab", intent="relative", black_point_compensation=True)
    lab.set_type(pyvips.GValue.blob_type, "icc-profile-data", profile.content)
    return lab.icc_export(depth=bits, intent="relative", black_point_compensation=True)
