"""Soft proofs: pictures in sRGB of what a press or printer makes of a picture, and of where it cannot follow."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyvips

from render.config.schema import RELATIVE
from render.export.metadata import srgb_profile
from render.export.profile import Profile, convert
from render.source.loaders import ICC_FIELD

#: Difference (CIEDE2000) from which on a colour counts as one that the press does not have: people see it at a glance.
MIN_DIFFERENCE = 5.0
#: R, G, B of such pixels in the warning, where all others are grey.
WARNING_COLOUR = (255, 0, 160)


@dataclass(frozen=True)
class Proof:
    """A soft proof.

    Attributes:
        shown: (rows, columns, 3) uint8 sRGB: the colours of the print.
        warning: (rows, columns, 3) uint8 sRGB: the print in grey, and `WARNING_COLOUR` where it lacks colours.
        beyond: Share of the pixels that it lacks, 0..1.
    """

    shown: np.ndarray
    warning: np.ndarray
    beyond: float


def proof(image: pyvips.Image, profile: Profile, intent: str, space: bytes | None = None, *, paper: bool = False) -> Proof:
    """Return the soft proof of an image that fits into memory.

    Args:
        image: RGB image of 16 bits.
        profile: Profile of the press, printer or display; no device link.
        intent: Rendering intent of the conversion to it, one of `INTENTS`.
        space: Profile of the image; None for sRGB.
        paper: True to show white as the paper's colour and black as the ink's; else they are the screen's.
    """
    image = image.copy_memory()
    shown = printed_colours(image, profile, intent, space, paper=paper)
    # A colour that the press has comes back as it was. Both ways compensate for black points: the ink's black is no loss.
    before = _with_profile(image, space or srgb_profile()).icc_import(embedded=True, pcs="lab", intent=RELATIVE)
    inks = _with_profile(convert(image, profile, 16, RELATIVE, space), profile.icc)
    after = inks.icc_import(embedded=True, pcs="lab", intent=RELATIVE, black_point_compensation=True)
    is_beyond = before.dE00(after).numpy()[..., np.newaxis] > MIN_DIFFERENCE
    grey = np.repeat(shown.mean(axis=2, keepdims=True), 3, axis=2)
    warning = np.where(is_beyond, np.array(WARNING_COLOUR), np.rint(grey)).astype(np.uint8)
    return Proof(shown, warning, float(is_beyond.mean()))


def printed_colours(
    image: pyvips.Image, profile: Profile, intent: str, space: bytes | None = None, *, paper: bool = False
) -> np.ndarray:
    """Return the colours of the print, (rows, columns, 3) uint8 sRGB; the arguments are those of `proof`."""
    printed = _with_profile(convert(image, profile, 16, intent, space), profile.icc)
    seen = "absolute" if paper else RELATIVE
    lab = printed.icc_import(embedded=True, pcs="lab", intent=seen, black_point_compensation=not paper)
    return np.ascontiguousarray(_with_profile(lab, srgb_profile()).icc_export(depth=8, intent=RELATIVE).numpy())


def _with_profile(image: pyvips.Image, profile: bytes) -> pyvips.Image:
    """Return an image with a profile instead of its own."""
    image = image.copy()
    image.set_type(pyvips.GValue.blob_type, ICC_FIELD, profile)
    return image
