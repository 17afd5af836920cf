"""The measures of preflight alone: qualities, samples, inks, bands and mirrors."""

from __future__ import annotations

import io

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from render.preflight.ink import InkMeter
from render.preflight.jpeg_quality import estimate_quality
from render.preflight.resampling import ResamplingMeter
from render.preflight.samples import Sampler
from render.preflight.tones import bands
from tests.preflight.scenes import BICUBIC, photograph, resized


@pytest.mark.parametrize("quality", [1, 5, 20, 49, 50, 51, 70, 75, 90, 95, 100])
def test_the_quality_of_a_jpeg_is_recovered(quality: int) -> None:
    file = io.BytesIO()
    Image.fromarray(photograph("chelsea")[:40, :40]).save(file, "JPEG", quality=quality, comment=b"x" * 60_000)
    file.seek(0)
    assert estimate_quality(file) == quality


@given(st.binary(max_size=300))
def test_no_bytes_break_the_estimate(content: bytes) -> None:
    for start in (b"", b"\xff\xd8", b"\xff\xd8\xff\xdb", b"\xff\xd8\xff\xdb\x00\x43\x00", b"\xff\xd8\xff\xff"):
        quality = estimate_quality(io.BytesIO(start + content))
        assert quality is None or 1 <= quality <= 100


@settings(max_examples=30)
@given(st.integers(1, 1500), st.integers(1, 40), st.lists(st.integers(1, 400), min_size=1, max_size=12))
def test_samples_are_the_same_for_any_strips(height: int, width: int, heights: list[int]) -> None:
    pixels = np.random.default_rng(height).integers(0, 256, (height, width, 3), np.uint8)
    once, cut = (Sampler(pixels.shape[:2], 3, np.uint8) for _ in range(2))
    whole_rows = once.rows(pixels)
    rows, top = [], 0
    for strip in [*heights, height]:
        rows.append(cut.rows(pixels[top : top + strip]))
        top = min(height, top + strip)
    assert np.array_equal(np.concatenate(rows), whole_rows)
    assert np.array_equal(cut.columns, once.columns)
    assert 0 < len(whole_rows) <= 512


def test_ink_is_added_up_exactly() -> None:
    pixels = np.array([[[255, 255, 255, 255], [51, 0, 0, 0], [0, 0, 0, 255], [200, 200, 200, 0]]], np.uint8)
    eight, sixteen = InkMeter(), InkMeter()
    eight.add(pixels)
    sixteen.add(pixels.astype(np.uint16) * 257)
    ink = eight.result()
    assert ink == sixteen.result()
    assert ink.maximum == 400
    assert [ink.share_over(limit) for limit in (0, 50, 100, 234, 240, 399)] == [1, 0.75, 0.5, 0.5, 0.25, 0]
    assert ink.mixed_black == 0.5  # All four inks; three inks that print as black. Not black ink alone.


def test_bands_are_small_steps_in_one_direction() -> None:
    def banded(*levels: int, length: int = 20) -> int:
        return bands(np.repeat(np.array(levels, np.uint8), length), 1.0)[0]

    assert banded(10, 18, 26, 34) == 80
    assert banded(34, 26, 18, 10) == 80
    assert banded(10, 11, 12, 13) == 0  # A gradient of 8 bits.
    assert banded(10, 90, 170, 250) == 0  # Edges.
    assert banded(10, 18, 10, 18, 10) == 0  # Stripes.
    assert banded(10, 18, 26, 34, length=3) == 0  # Texture.


@pytest.mark.parametrize("factor", [1.8, 2.2, 3.0, 5.5, 9.0])
@pytest.mark.parametrize("cut", [0, 37])
def test_the_factor_of_an_enlargement_is_measured_wherever_it_is_cut(factor: float, cut: int) -> None:
    grey = resized(photograph("coffee")[100:250, 100:350], factor, BICUBIC)[:, cut:].mean(axis=2, dtype=np.float32)
    meter = ResamplingMeter(grey.shape[1])
    meter.add(grey)
    mirrors = meter.mirrors(0.3)
    assert min(abs(mirror.factor / factor - 1) for mirror in mirrors) < 0.02
