"""Intents, device links and profiles that no picture can be in."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import pytest
import pyvips
from PIL import Image

from render.config.schema import INTENTS
from render.errors import UserError
from render.export.export import Style, export
from render.export.metadata import srgb_profile
from render.export.profile import read_profile
from tests.export.test_export import smooth, stored
from tests.support.icc_files import black_only_link


def inks(path: Path) -> np.ndarray:
    with Image.open(path) as read:
        assert read.mode == "CMYK"
        return np.asarray(read, int)


def test_intents_differ_on_a_press_and_the_relative_one_is_as_before(tmp_path: Path) -> None:
    canvas = stored(tmp_path / "a", smooth((120, 160)))
    pictures = {}
    for intent in INTENTS:
        export(canvas, tmp_path / intent, "tiff", Style(profile=read_profile("cmyk"), intent=intent))
        pictures[intent] = inks(tmp_path / intent)
    export(canvas, tmp_path / "default", "tiff", Style(profile=read_profile("cmyk")))
    np.testing.assert_array_equal(inks(tmp_path / "default"), pictures["relative"])
    for intent in ("perceptual", "absolute"):
        assert np.abs(pictures[intent] - pictures["relative"]).mean() > 0.5


@pytest.mark.parametrize("bits", [8, 16])
def test_a_device_link_keeps_grey_in_black_ink_and_ink_below_its_limit(bits: int, tmp_path: Path) -> None:
    grey = np.linspace(0, 255, 200, dtype=np.float32)[None, :, None].repeat(40, 0).repeat(3, 2)
    pixels = np.concatenate([grey, smooth((60, 200))])
    canvas = stored(tmp_path / "a", pixels)
    for most in (1.0, 0.6):
        (tmp_path / "link.icc").write_bytes(black_only_link(most))
        profile = read_profile(str(tmp_path / "link.icc"))
        assert (profile.is_link, profile.channels) == (True, 4)
        export(canvas, tmp_path / "out.tif", "tiff", Style(bits, profile=profile))
        image = pyvips.Image.new_from_file(str(tmp_path / "out.tif"))
        assert image.interpretation in ("cmyk", "cmyk16", "multiband")
        assert not image.get_typeof("icc-profile-data"), "a link is no profile that a picture can be in"
        shares = image.numpy() / (255 if bits == 8 else 65535)
        assert shares.shape == (100, 200, 4)
        assert shares[:40, :, :3].max() < 0.005, "grey has black ink alone"
        np.testing.assert_allclose(shares[:40, :, 3], (1 - grey[..., 0] / 255) * most, atol=0.01)
        assert shares.max() < most + 0.005


@pytest.mark.parametrize(
    ("name", "words"),
    [
        (b"scnr", "an input profile, of a scanner or camera"),
        (b"abst", "an abstract profile"),
        (b"nmcl", "a profile of named colours"),
        (b"link", "a device link from RGB to XYZ"),
    ],
)
def test_a_profile_of_another_class_is_refused_by_its_name(name: bytes, words: str, tmp_path: Path) -> None:
    content = srgb_profile()
    (tmp_path / "x.icc").write_bytes(content[:12] + name + content[16:])
    with pytest.raises(UserError, match=words):
        read_profile(str(tmp_path / "x.icc"))


@pytest.mark.parametrize("content", [black_only_link(), read_profile("cmyk").icc], ids=["link", "press"])
def test_a_profile_that_converts_nothing_is_refused_before_anything_is_dreamed(content: bytes, tmp_path: Path) -> None:
    """Its header is whole, and its tables lie beyond its end."""
    damaged = bytearray(content)
    (tags,) = struct.unpack_from(">I", damaged, 128)
    for number in range(tags):
        struct.pack_into(">II", damaged, 132 + 12 * number + 4, 1 << 30, 1 << 30)
    (tmp_path / "x.icc").write_bytes(damaged)
    with pytest.raises(UserError, match=r"x\.icc: no colour can be converted by it"):
        read_profile(str(tmp_path / "x.icc"))
