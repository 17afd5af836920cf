"""Lanczos resampling against Pillow's and JAX's, and rectangle by rectangle against itself."""

from __future__ import annotations

import jax
import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from PIL import Image

from render.dreaming.resample import Pixels, ReadPixels, resample, resample_array, span_taps, taps
from render.geometry.geometry import AxisMode, Interval, Rect, whole
from render.geometry.source_window import Span

Shape = tuple[int, int]

sides = st.integers(1, 60)
shapes = st.tuples(sides, sides)


def picture(shape: Shape, seed: int = 0, channels: int = 3) -> Pixels:
    """White noise, 0..255: every frequency that there is, the hardest case for a resampler."""
    return np.random.default_rng(seed).uniform(0, 255, (*shape, channels)).astype(np.float32)


def by_pillow(pixels: Pixels, shape: Shape) -> Pixels:
    """Pillow's Lanczos in floating point, one channel at a time."""
    size = (shape[1], shape[0])
    channels = [
        Image.fromarray(np.ascontiguousarray(pixels[..., channel])).resize(size, Image.Resampling.LANCZOS)
        for channel in range(pixels.shape[2])
    ]
    assert channels[0].mode == "F"
    return np.stack([np.asarray(channel) for channel in channels], -1)


@st.composite
def parts(draw: st.DrawFn) -> tuple[Shape, Shape, Rect]:
    """Input shape, output shape and a rectangle of the output."""
    before, after = draw(shapes), draw(shapes)
    cuts = [sorted(draw(st.lists(st.integers(0, side), min_size=2, max_size=2, unique=True))) for side in after]
    return before, after, Rect(*(Interval(*cut) for cut in cuts))


@given(shapes, shapes)
@example((60, 60), (1, 1))
@example((1, 1), (60, 60))
@example((57, 41), (29, 60))
def test_agrees_with_pillow(before: Shape, after: Shape) -> None:
    pixels = picture(before)
    resampled = resample_array(pixels, after)
    assert resampled.dtype == np.float32
    assert resampled.shape == (*after, 3)
    np.testing.assert_allclose(resampled, by_pillow(pixels, after), atol=1e-2, rtol=0)


@pytest.mark.parametrize(
    ("before", "after"),
    [((300, 451), (214, 322)), ((214, 322), (300, 451)), ((500, 40), (17, 333)), ((97, 89), (97, 500))],
)
def test_agrees_with_pillow_on_whole_pictures(before: Shape, after: Shape) -> None:
    """Octave steps of 1.4 both ways, and one axis down while the other goes up or stays."""
    pixels = picture(before)
    np.testing.assert_allclose(resample_array(pixels, after), by_pillow(pixels, after), atol=1e-2, rtol=0)


@settings(max_examples=15)  # Every pair of shapes compiles.
@given(shapes, shapes)
@example((60, 43), (31, 60))
@example((7, 1), (1, 7))
def test_agrees_with_jax(before: Shape, after: Shape) -> None:
    pixels = picture(before)
    by_jax = jax.image.resize(pixels, (*after, 3), method="lanczos3", antialias=True, precision=jax.lax.Precision.HIGHEST)
    np.testing.assert_allclose(resample_array(pixels, after), by_jax, atol=0.05, rtol=0)


@given(parts(), st.sampled_from([1, 3, 4]))
@example(((60, 60), (60, 30), Rect(Interval(59, 60), Interval(29, 30))), 3)
def test_any_rectangle_is_bit_identical_to_that_part_of_the_whole(part: tuple[Shape, Shape, Rect], channels: int) -> None:
    before, after, rect = part
    pixels = picture(before, channels=channels)
    whole_picture = resample_array(pixels, after)
    got = resample(lambda read: pixels[slice(*read.rows), slice(*read.columns)], before, after, rect)
    expected = whole_picture[slice(*rect.rows), slice(*rect.columns)]
    assert got.shape == (*rect.shape, channels)
    assert np.asarray(got, np.float32).tobytes() == expected.tobytes()


@pytest.mark.parametrize(("before", "after"), [((611, 803), (436, 574)), ((436, 574), (611, 803))])
def test_any_tiling_of_a_whole_picture_is_bit_identical(before: Shape, after: Shape) -> None:
    """At sizes where vectorised loops have their full length, for tiles of odd sizes."""
    pixels = picture(before)
    expected = resample_array(pixels, after)
    for size in (61, 128, 257):
        for top in range(0, after[0], size):
            for left in range(0, after[1], size):
                rows = Interval(top, min(top + size, after[0]))
                columns = Interval(left, min(left + size, after[1]))
                got = resample(
                    lambda read: pixels[slice(*read.rows), slice(*read.columns)], before, after, Rect(rows, columns)
                )
                assert got.tobytes() == expected[slice(*rows), slice(*columns)].tobytes()


def recording(pixels: Pixels) -> tuple[ReadPixels, list[Rect]]:
    """A reader of these pixels, and the list in which it notes what it was asked for."""
    reads: list[Rect] = []

    def read(rect: Rect) -> Pixels:
        reads.append(rect)
        return pixels[slice(*rect.rows), slice(*rect.columns)]

    return read, reads


@given(parts())
def test_reads_only_what_the_rectangle_depends_on(part: tuple[Shape, Shape, Rect]) -> None:
    """One read, inside the picture, of three lobes on either side."""
    before, after, rect = part
    pixels = picture(before)
    read, reads = recording(pixels)
    resample(read, before, after, rect)
    assert len(reads) == 1
    for axis in (0, 1):
        got, out = reads[0][axis], rect[axis]
        scale = before[axis] / after[axis]
        reach = 3 * max(1.0, scale)
        assert Interval(0, before[axis]).contains(got)
        assert got.start >= (out.start + 0.5) * scale - 0.5 - reach
        assert got.stop - 1 <= (out.stop - 0.5) * scale - 0.5 + reach


@given(parts())
def test_pixels_that_are_not_read_do_not_matter(part: tuple[Shape, Shape, Rect]) -> None:
    """Nor does Pillow need them: what lies outside the rectangle that is read may be anything."""
    before, after, rect = part
    pixels = picture(before)
    read, reads = recording(pixels)
    resample(read, before, after, rect)
    spoiled = np.full_like(pixels, 1e6)
    inside = (slice(*reads[0].rows), slice(*reads[0].columns))
    spoiled[inside] = pixels[inside]
    part_of = (slice(*rect.rows), slice(*rect.columns))
    np.testing.assert_allclose(by_pillow(spoiled, after)[part_of], by_pillow(pixels, after)[part_of], atol=0.5)


@given(shapes, shapes, st.floats(0, 255, width=32))
def test_a_constant_stays_constant(before: Shape, after: Shape, value: float) -> None:
    """To 16 steps of float32 at 255, in which both passes sum.

    15 was the worst of every pair of sides up to 60.
    """
    resampled = resample_array(np.full((*before, 3), value, np.float32), after)
    np.testing.assert_allclose(resampled, value, atol=16 * 2**-16, rtol=0)


@given(parts())
def test_the_same_size_is_the_identity(part: tuple[Shape, Shape, Rect]) -> None:
    _, shape, rect = part
    pixels = picture(shape)
    assert resample_array(pixels, shape).tobytes() == pixels.tobytes()
    got = resample(lambda read: pixels[slice(*read.rows), slice(*read.columns)], shape, shape, rect)
    assert np.ascontiguousarray(got).tobytes() == pixels[slice(*rect.rows), slice(*rect.columns)].tobytes()


@given(shapes, shapes)
def test_mirroring_before_or_after_is_the_same(before: Shape, after: Shape) -> None:
    """Pixel centres are where they should be: no shift to one side."""
    pixels = picture(before)
    mirrored = resample_array(np.ascontiguousarray(pixels[::-1, ::-1]), after)
    np.testing.assert_allclose(mirrored[::-1, ::-1], resample_array(pixels, after), atol=1e-2)


@given(sides, sides)
def test_weights_of_every_output_sum_to_one(before: int, after: int) -> None:
    inputs, weights = taps(before, after, Interval(0, after))
    assert Interval(0, before).contains(inputs)
    assert weights.shape == (after, inputs.size)
    np.testing.assert_allclose(weights.sum(axis=1), 1, atol=1e-6)


def former_taps(in_length: int, out_length: int, out: Interval, wraps: bool) -> tuple[Interval, np.ndarray]:
    """The weights of a whole axis, written out for that case alone."""
    scale = in_length / out_length
    widening = max(scale, 1.0)
    centres = (np.arange(out.start, out.stop) + 0.5) * scale - 0.5
    reach = int(np.ceil(3 * widening))
    indices = np.floor(centres).astype(np.int64)[:, None] - reach + np.arange(2 * reach + 2)
    distance = (indices - centres[:, None]) / widening
    weights = np.where(np.abs(distance) < 3, np.sinc(distance) * np.sinc(distance / 3), 0.0)
    if not wraps:
        weights[(indices < 0) | (indices >= in_length)] = 0.0
    weights /= weights.sum(axis=1, keepdims=True)
    first, last = int(indices[weights != 0].min()), int(indices[weights != 0].max())
    dense = np.zeros((out.size, last + 1 - first), np.float32)
    for row, (columns, values) in enumerate(zip(indices, weights, strict=True)):
        dense[row, columns[values != 0] - first] = values[values != 0].astype(np.float32)
    return Interval(first, last + 1), dense


@given(sides, sides, st.booleans(), st.data())
def test_a_window_on_a_whole_axis_weighs_as_if_there_were_no_windows(
    before: int, after: int, wraps: bool, data: st.DataObject
) -> None:
    """To the bit: whole pictures come out as they did before sources had windows."""
    start = data.draw(st.integers(0, after - 1))
    out = Interval(start, data.draw(st.integers(start + 1, after)))
    expected_inputs, expected = former_taps(before, after, out, wraps)
    for inputs, weights in (
        taps(before, after, out, "wrap" if wraps else "reflect"),
        span_taps(Span(before, 0.0, float(before), "wrap" if wraps else "cut"), after, out),
    ):
        assert inputs == expected_inputs
        assert weights.toarray().tobytes() == expected.tobytes()


@given(sides, sides, st.floats(-20, 20), st.floats(0.5, 60))
def test_a_window_beyond_the_ends_cuts_nothing(before: int, after: int, start: float, extent: float) -> None:
    """It weighs as in the middle of a picture that goes on and on."""
    dense = np.zeros((2, after, 1000))
    for kind, span in enumerate((Span(before, start, extent, "mirror"), Span(1000, start + 400, extent, "cut"))):
        inputs, weights = span_taps(span, after, Interval(0, after))
        dense[kind, :, (inputs if kind else inputs.shifted(400)).slice_from(0)] = weights.toarray()
    np.testing.assert_allclose(dense[0], dense[1], atol=1e-6)
    np.testing.assert_allclose(dense[0].sum(axis=1), 1, atol=1e-6)


# An axis that wraps


def wrapped(pixels: Pixels, rect: Rect) -> Pixels:
    """The rectangle of the endless plane that the picture tiles."""
    rows, columns = np.arange(*rect.rows), np.arange(*rect.columns)
    return pixels[np.ix_(rows % pixels.shape[0], columns % pixels.shape[1])]


@given(shapes, shapes)
@example((60, 60), (1, 1))
@example((1, 1), (60, 60))
def test_on_a_torus_it_is_pillows_of_the_repeated_picture(before: Shape, after: Shape) -> None:
    """As many copies as the kernel reaches; the one in the middle has no edge."""
    pixels = picture(before)
    copies = [2 * (1 + int(np.ceil(3 * max(1, b / a) / b))) + 1 for b, a in zip(before, after, strict=True)]
    repeated = np.tile(pixels, (*copies, 1))
    large = by_pillow(repeated, (after[0] * copies[0], after[1] * copies[1]))
    middle = tuple(slice(copy // 2 * side, (copy // 2 + 1) * side) for copy, side in zip(copies, after, strict=True))
    got = resample(lambda rect: wrapped(pixels, rect), before, after, whole(*after), ("wrap", "wrap"))
    np.testing.assert_allclose(got, large[middle], atol=1e-2, rtol=0)


@given(parts(), st.sampled_from([("wrap", "wrap"), ("reflect", "wrap"), ("wrap", "reflect")]))
def test_on_a_torus_any_rectangle_is_bit_identical_to_that_part_of_the_whole(
    part: tuple[Shape, Shape, Rect], modes: tuple[AxisMode, AxisMode]
) -> None:
    before, after, rect = part
    pixels = picture(before)

    def by_rect(rect: Rect) -> Pixels:
        return resample(lambda read: wrapped(pixels, read), before, after, rect, modes)

    complete = by_rect(whole(*after))
    assert by_rect(rect).tobytes() == complete[slice(*rect.rows), slice(*rect.columns)].tobytes()


@given(shapes, shapes)
def test_only_the_axis_that_wraps_reads_beyond_its_ends(before: Shape, after: Shape) -> None:
    pixels = picture(before)
    reads: list[Rect] = []

    def read(rect: Rect) -> Pixels:
        reads.append(rect)
        return wrapped(pixels, rect)

    resample(read, before, after, whole(*after), ("reflect", "wrap"))
    assert Interval(0, before[0]).contains(reads[0].rows)
    if before[1] > after[1] > 0:
        # The kernel is wider than the distance of the outermost centres from the edge.
        assert reads[0].columns.start < 0
        assert reads[0].columns.stop > before[1]


def test_a_ramp_stays_a_ramp() -> None:
    """A straight line in, the same line out, away from the edges."""
    line = np.broadcast_to(np.linspace(0, 255, 100, dtype=np.float32)[None, :, None], (20, 100, 3))
    resampled = resample_array(np.ascontiguousarray(line), (20, 150))
    expected = 255 / 99 * ((np.arange(150) + 0.5) / 1.5 - 0.5)
    np.testing.assert_allclose(resampled[10, 10:-10, 0], expected[10:-10], atol=0.5)


@given(st.integers(4, 24), st.integers(1, 3), st.integers(1, 3), st.data())
def test_on_a_torus_rolling_before_or_after_is_the_same(cells: int, into: int, out_of: int, data: st.DataObject) -> None:
    """A shift that is whole pixels before and after resampling goes through it."""
    before, after = (cells * out_of, cells * out_of), (cells * into, cells * into)
    shift = data.draw(st.integers(0, cells))
    pixels = picture(before)

    def torus(values: Pixels) -> Pixels:
        def read(rect: Rect) -> Pixels:
            return values[np.ix_(np.arange(*rect.rows) % before[0], np.arange(*rect.columns) % before[1])]

        return resample(read, before, after, whole(*after), ("wrap", "wrap"))

    rolled = torus(np.roll(pixels, shift * out_of, (0, 1)))
    np.testing.assert_allclose(rolled, np.roll(torus(pixels), shift * into, (0, 1)), atol=1e-3)
