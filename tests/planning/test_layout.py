"""How the source is laid onto the canvas: fit, bleed, and what lies beyond, against Pillow's boxes and numpy's padding."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from PIL import Image

from render.config.compose import load_config
from render.config.schema import OutputConfig, picture_bleed
from render.dreaming.resample import Pixels
from render.errors import UserError
from render.geometry.geometry import BOUNDARY_MODES, Interval, Rect, whole
from render.geometry.source_window import SourceWindow
from render.planning.layout import SourceLayout, lay_out
from render.source.photo import PhotoSource

Shape = tuple[int, int]
PLAIN = BOUNDARY_MODES["reflect"]

sides = st.integers(1, 400)
sizes = st.tuples(sides, sides)
fits = st.sampled_from(["crop", "contain", "stretch"])


def picture(size: Shape, seed: int = 0) -> Pixels:
    return np.random.default_rng(seed).uniform(0, 255, (*size, 3)).astype(np.float32)


def by_pillow(pixels: Pixels, shape: Shape, box: tuple[float, float, float, float]) -> Pixels:
    """Pillow's Lanczos of a box (left, top, right, bottom), in floating point, clipped."""
    channels = [
        Image.fromarray(np.ascontiguousarray(pixels[..., channel])).resize(
            (shape[1], shape[0]), Image.Resampling.LANCZOS, box=box
        )
        for channel in range(3)
    ]
    return np.clip(np.stack([np.asarray(channel) for channel in channels], -1), 0, 255)


def box(window: SourceWindow, pad: int = 0) -> tuple[float, float, float, float]:
    rows, columns = window.rows, window.columns
    left, top = columns.start + pad, rows.start + pad
    return left, top, left + columns.extent, top + rows.extent


def unpadded(edge: float, pad: int) -> float:
    """Return an edge without the padding; Pillow refuses one that rounding has put before the picture."""
    return 0.0 if abs(edge - pad) < 1e-9 else edge - pad


def shown(
    pixels: Pixels, layout: SourceLayout, shape: Shape | None = None, background: tuple[int, ...] = (9, 99, 199)
) -> Pixels:
    """All of the canvas, filled with the source."""
    shape = shape or layout.shape
    source = PhotoSource(pixels, "x", background).laid_out(layout.window, Path())
    return source.at(shape, whole(*shape))


# Sizes and windows


@given(sizes, sizes, fits, st.floats(0, 20), st.floats(10, 600))
def test_the_bleed_lies_around_the_trim_size_on_every_side(
    size: Shape, trim: Shape, fit: str, bleed_mm: float, dpi: float
) -> None:
    output = OutputConfig(width=trim[1], height=trim[0], fit=fit, bleed_mm=bleed_mm, dpi=dpi)
    layout, bleed = lay_out(output, size), picture_bleed(output)
    assert abs(bleed - bleed_mm / 25.4 * dpi) <= 0.5
    assert layout.shape == (trim[0] + 2 * bleed, trim[1] + 2 * bleed)
    assert layout.trim == Rect(Interval(bleed, bleed + trim[0]), Interval(bleed, bleed + trim[1]))


@given(sizes, sizes, fits, st.integers(0, 40))
def test_bleed_does_not_move_what_the_trim_size_shows(size: Shape, trim: Shape, fit: str, bleed: int) -> None:
    """Every canvas pixel inside shows the very place in the source that it shows without bleed."""
    output = {"width": trim[1], "height": trim[0], "fit": fit}
    bare, bled = lay_out(OutputConfig(**output), size), lay_out(OutputConfig(**output, bleed_mm=bleed, dpi=25.4), size)
    assert bare.window is not None
    assert bled.window is not None
    for axis, name in enumerate(("rows", "columns")):
        without, having = getattr(bare.window, name), getattr(bled.window, name)
        inside = without.start + (np.arange(trim[axis]) + 0.5) * without.extent / trim[axis]
        around = having.start + (np.arange(bled.shape[axis]) + 0.5) * having.extent / bled.shape[axis]
        np.testing.assert_allclose(around[bleed : bleed + trim[axis]], inside, atol=1e-9 * size[axis], rtol=0)


@given(sizes, sizes)
def test_crop_shows_the_largest_centred_part_of_the_canvas_aspect(size: Shape, trim: Shape) -> None:
    window = lay_out(OutputConfig(width=trim[1], height=trim[0]), size).window
    assert window is not None
    for span, length in ((window.rows, size[0]), (window.columns, size[1])):
        assert not span.overhangs
        assert span.start + span.extent / 2 == pytest.approx(length / 2)
        assert span.beyond == "cut"
    assert window.rows.extent == size[0] or window.columns.extent == size[1]
    if (window.rows.extent, window.columns.extent) != size:
        assert window.rows.extent / trim[0] == pytest.approx(window.columns.extent / trim[1])


@given(sizes, sizes)
def test_contain_shows_all_of_the_source_undistorted(size: Shape, trim: Shape) -> None:
    window = lay_out(OutputConfig(width=trim[1], height=trim[0], fit="contain"), size).window
    assert window is not None
    spans = (window.rows, window.columns)
    for span, length in zip(spans, size, strict=True):
        assert span.extent >= length
        assert span.start + span.extent / 2 == pytest.approx(length / 2)
        assert span.beyond == ("background" if span.overhangs else "cut")
    assert window.rows.extent == size[0] or window.columns.extent == size[1]
    if any(span.overhangs for span in spans):
        assert window.rows.extent / trim[0] == pytest.approx(window.columns.extent / trim[1])


@given(sizes, st.sampled_from(["width", "height", "both", "neither", "stretch"]), sides, sides, fits)
def test_the_whole_source_is_shown_where_the_aspect_is_its_own(
    size: Shape, given_: str, width: int, height: int, fit: str
) -> None:
    """Or nearly, as whole pixels are: a side that was rounded, by whomever, cuts nothing off."""
    follows = max(1, round(width * size[0] / size[1]))
    keys: dict[str, Any] = {
        "width": {"width": width},
        "height": {"height": height},
        "both": {"width": width, "height": follows},
        "neither": {},
        "stretch": {"width": width, "height": height},
    }[given_]
    output = OutputConfig(**keys, fit="stretch" if given_ == "stretch" else fit)
    assert lay_out(output, size).window == SourceWindow.whole(size)


@given(sizes, sizes, st.sampled_from(["wrap", "wrap_x"]), fits)
def test_an_axis_that_wraps_still_wraps_in_a_window(size: Shape, trim: Shape, mode: str, fit: str) -> None:
    """But background stays background: it wraps by itself."""
    modes = BOUNDARY_MODES[mode]
    window = lay_out(OutputConfig(width=trim[1], height=trim[0], fit=fit), size, modes).window
    assert window is not None
    for span, axis_mode in zip((window.rows, window.columns), modes, strict=True):
        expected = "background" if span.overhangs else {"wrap": "wrap", "reflect": "cut"}[axis_mode]
        assert span.beyond == expected


def test_noise_fills_any_canvas() -> None:
    layout = lay_out(OutputConfig(width=300, bleed_mm=10, dpi=25.4), None)
    assert layout == SourceLayout((220, 320), Rect(Interval(10, 210), Interval(10, 310)), None)
    with pytest.raises(UserError, match=r"noise has no size.*output\.width"):
        lay_out(OutputConfig(), None)


@pytest.mark.parametrize("fit", ["crop", "contain", "stretch"])
def test_sides_on_paper_are_laid_out_as_the_pixels_that_they_are(fit: str) -> None:
    on_paper = OutputConfig(width_cm=10.0, height_in=4.5, dpi=100.0, fit=fit, bleed_mm=2.54)
    in_pixels = OutputConfig(width=394, height=450, dpi=100.0, fit=fit, bleed_mm=2.54)
    assert lay_out(on_paper, (300, 400)) == lay_out(in_pixels, (300, 400))
    # One side alone keeps the aspect.
    for output in (OutputConfig(height_cm=5.08, dpi=100.0), OutputConfig(height_in=2.0, dpi=100.0)):
        assert lay_out(output, (300, 400)) == lay_out(OutputConfig(height=200), (300, 400))


# Pixels


@given(st.tuples(st.integers(20, 90), st.integers(20, 90)), sizes)
def test_a_crop_is_pillows_box(size: Shape, trim: Shape) -> None:
    """At the canvas' size and at that of a coarser octave."""
    pixels = picture(size)
    layout = lay_out(OutputConfig(width=trim[1], height=trim[0]), size)
    assert layout.window is not None
    coarse = max(1, round(trim[0] / 2.7)), max(1, round(trim[1] / 2.7))
    for shape in (trim, coarse):
        expected = by_pillow(pixels, shape, box(layout.window))
        np.testing.assert_allclose(shown(pixels, layout, shape), expected, atol=0.02)


@given(
    st.tuples(st.integers(20, 60), st.integers(20, 60)),
    st.tuples(st.integers(8, 90), st.integers(8, 90)),
    st.floats(0.5, 9),
)
def test_bleed_is_what_the_source_has_there_and_then_its_mirror_image(size: Shape, trim: Shape, bleed_mm: float) -> None:
    """Pillow's box in a picture that numpy padded by mirroring it without its edge."""
    pixels = picture(size)
    layout = lay_out(OutputConfig(width=trim[1], height=trim[0], bleed_mm=bleed_mm, dpi=25.4), size)
    window = layout.window
    assert window is not None
    for shape in (layout.shape, (max(1, round(layout.shape[0] / 1.9)), max(1, round(layout.shape[1] / 1.9)))):
        scale = max(1.0, window.rows.extent / shape[0], window.columns.extent / shape[1])
        pad = int(np.ceil(3 * scale - min(window.rows.start, window.columns.start))) + 2
        padded = np.pad(pixels, ((pad, pad), (pad, pad), (0, 0)), mode="reflect")
        # An axis that shows no more than the source has is cut at its ends, as Pillow does.
        cut_rows, cut_columns = (span.beyond == "cut" for span in (window.rows, window.columns))
        edges = box(window, pad)
        if cut_rows:
            padded, edges = padded[pad:-pad], (edges[0], unpadded(edges[1], pad), edges[2], edges[3] - pad)
        if cut_columns:
            padded, edges = padded[:, pad:-pad], (unpadded(edges[0], pad), edges[1], edges[2] - pad, edges[3])
        np.testing.assert_allclose(shown(pixels, layout, shape), by_pillow(padded, shape, edges), atol=0.02)


def test_bleed_at_the_sources_own_size_is_numpys_padding() -> None:
    """Where nothing is resampled, to the bit."""
    pixels = picture((30, 40))
    layout = lay_out(OutputConfig(bleed_mm=7, dpi=25.4), (30, 40))
    np.testing.assert_array_equal(shown(pixels, layout), np.pad(pixels, ((7, 7), (7, 7), (0, 0)), mode="reflect"))


def test_a_crop_at_the_sources_own_scale_bleeds_into_the_source() -> None:
    pixels = picture((30, 60))
    layout = lay_out(OutputConfig(width=30, height=30, bleed_mm=5, dpi=25.4), (30, 60))
    expected = np.pad(pixels, ((5, 5), (0, 0), (0, 0)), mode="reflect")[:, 10:50]
    np.testing.assert_array_equal(shown(pixels, layout), expected)


@given(
    st.tuples(st.integers(20, 60), st.integers(20, 60)),
    st.tuples(st.integers(8, 90), st.integers(8, 90)),
    st.integers(0, 9),
)
def test_contain_lays_the_source_on_the_background(size: Shape, trim: Shape, bleed: int) -> None:
    """Pillow's box in a picture with a wide frame; bleed goes on with the frame, and mirrors where there is none."""
    colour = (9, 99, 199)
    pixels = picture(size)
    layout = lay_out(OutputConfig(width=trim[1], height=trim[0], fit="contain", bleed_mm=bleed, dpi=25.4), size)
    window = layout.window
    assert window is not None
    assume("background" in (window.rows.beyond, window.columns.beyond))
    scale = max(1.0, window.rows.extent / layout.shape[0], window.columns.extent / layout.shape[1])
    pad = int(np.ceil(3 * scale - min(window.rows.start, window.columns.start))) + 2
    framed, edges = pixels, list(box(window))
    # The frame last, so that what is mirrored is the source.
    for axis in sorted((0, 1), key=lambda axis: (window.rows, window.columns)[axis].beyond == "background"):
        beyond = (window.rows, window.columns)[axis].beyond
        if beyond != "cut":
            around = [(pad, pad) if other == axis else (0, 0) for other in range(3)]
            mirrored = np.pad(framed, around, mode="reflect")
            if beyond == "background":
                inside = [slice(pad, -pad) if other == axis else slice(None) for other in range(3)]
                filled = np.empty_like(mirrored)
                filled[...] = colour
                filled[tuple(inside)] = framed
                mirrored = filled
            framed = mirrored
            for edge in (1 - axis, 3 - axis):
                edges[edge] += pad
    expected = by_pillow(framed, layout.shape, (edges[0], edges[1], edges[2], edges[3]))
    np.testing.assert_allclose(shown(pixels, layout, background=colour), expected, atol=0.02)


@given(
    st.tuples(st.integers(5, 60), st.integers(5, 60)),
    st.tuples(st.integers(5, 60), st.integers(5, 60)),
    fits,
    st.integers(0, 20),
    st.sampled_from(["reflect", "wrap", "wrap_x"]),
    st.data(),
)
def test_any_rectangle_of_any_layout_is_bit_identical_to_that_part_of_the_whole(
    size: Shape, trim: Shape, fit: str, bleed: int, mode: str, data: st.DataObject
) -> None:
    output = OutputConfig(width=trim[1], height=trim[0], fit=fit, bleed_mm=bleed, dpi=25.4)
    layout = lay_out(output, size, BOUNDARY_MODES[mode])
    source = PhotoSource(picture(size), "x").laid_out(layout.window, Path())
    factor = data.draw(st.sampled_from([1.0, 1.4, 3.3]))
    shape = max(2, round(layout.shape[0] / factor)), max(2, round(layout.shape[1] / factor))
    cuts = [sorted(data.draw(st.lists(st.integers(0, side), min_size=2, max_size=2, unique=True))) for side in shape]
    rect = Rect(*(Interval(*cut) for cut in cuts))
    complete = source.at(shape, whole(*shape))
    assert source.at(shape, rect).tobytes() == complete[slice(*rect.rows), slice(*rect.columns)].tobytes()
    assert np.isfinite(complete).all()


# Words


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["output.fit=cover"], ["output.fit=cover", "crop, contain, stretch"]),
        (["output.bleed_mm=3"], ["output.bleed_mm", "output.dpi"]),
        (["output.bleed_mm=-1", "output.dpi=150"], ["output.bleed_mm=-1", "from 0 to"]),
        (["output.bleed_mm=nan", "output.dpi=150"], ["output.bleed_mm=nan"]),
        (["output.bleed_mm=1000", "output.dpi=150"], ["output.bleed_mm=1000", "mm"]),
        (
            ["output.bleed_mm=3", "output.dpi=150", "boundary.mode=wrap"],
            ["output.bleed_mm=3", "boundary.mode=wrap", "repeat"],
        ),
        (["output.bleed_mm=3", "output.dpi=150", "boundary.mode=wrap_x"], ["output.bleed_mm=3", "boundary.mode=wrap_x"]),
    ],
)
def test_words_that_make_no_layout_are_refused(words: list[str], said: list[str]) -> None:
    with pytest.raises(UserError) as caught:
        load_config("preview", words)
    assert all(word in str(caught.value) for word in said), caught.value


def test_no_bleed_is_no_bleed_whatever_wraps() -> None:
    assert load_config("preview", ["output.bleed_mm=0", "output.dpi=150", "boundary.mode=wrap"]).output.bleed_mm == 0
