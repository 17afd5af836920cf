"""Profiles of primaries and curves, read as spaces: against littleCMS, and whatever is in them."""

from __future__ import annotations

import io
import struct

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageCms

from render.export.metadata import srgb_profile
from render.export.profile import read_profile
from render.source.matrix_profile import read_matrix_profile
from tests.source.test_source import srgb_encoded
from tests.support.icc_files import SPACES, black_only_link, rgb_profile


def of_srgb(values: np.ndarray, content: bytes) -> np.ndarray:
    """sRGB 0..255, not clipped, of values 0..255 in a profile's space."""
    space = read_matrix_profile(content)
    assert space is not None
    light = np.stack([space.light(values[..., channel] / 255, channel) for channel in range(3)], -1)
    light = light if space.matrix is None else light @ space.matrix.T
    return np.copysign(255 * srgb_encoded(np.abs(light)), light)


@pytest.mark.parametrize("name", [*SPACES, "srgb", "p3"])
def test_a_profile_is_read_as_little_cms_reads_it(name: str) -> None:
    """p3's curve is parametric, sRGB's too; in muted colours, which sRGB has as well."""
    content = rgb_profile(name) if name in SPACES else read_profile(name).icc
    values = np.random.default_rng(0).integers(90, 150, (50, 50, 3)).astype(np.uint8)
    oracle = ImageCms.profileToProfile(
        Image.fromarray(values), ImageCms.ImageCmsProfile(io.BytesIO(content)), ImageCms.createProfile("sRGB"),
        renderingIntent=ImageCms.Intent.RELATIVE_COLORIMETRIC,
    )  # fmt: skip
    assert oracle is not None
    assert np.abs(np.clip(of_srgb(values, content), 0, 255) - np.asarray(oracle, float)).max() < 1.1


def test_a_profile_of_tables_or_of_another_space_is_none() -> None:
    assert read_matrix_profile(read_profile("cmyk").icc) is None
    assert read_matrix_profile(black_only_link()) is None
    assert read_matrix_profile(b"") is None
    assert read_matrix_profile(srgb_profile().replace(b"gTRC", b"A2B0")) is None


@given(st.integers(0, len(srgb_profile()) - 4), st.binary(min_size=4, max_size=4), st.integers(0, 1000))
@settings(max_examples=300)
def test_bytes_of_anybody_make_a_sensible_space_or_none(offset: int, content: bytes, cut: int) -> None:
    profile = bytearray(srgb_profile())
    profile[offset : offset + 4] = content
    space = read_matrix_profile(bytes(profile[: len(profile) - cut] if cut < 200 else profile))
    if space is not None:
        light = space.light(np.linspace(0, 1, 100), 1)
        assert np.isfinite(light).all()
        assert light.min() >= 0
        assert space.matrix is None or np.isfinite(space.matrix).all()


def test_more_tags_than_any_profile_has_are_none() -> None:
    profile = bytearray(rgb_profile("adobe"))
    profile[128:132] = struct.pack(">I", 1 << 31)
    assert read_matrix_profile(bytes(profile)) is None
