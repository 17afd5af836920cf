"""Warps of stored canvases: parts equal the whole, known maps give known pixels, and a frame's source blends as it says."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from render.canvas import store
from render.canvas.store import CanvasStore
from render.dreaming.noise import fractal_noise
from render.dreaming.resample import Pixels, resample_array
from render.geometry.affine import Affine, Point
from render.geometry.geometry import AxisMode, Interval, Rect, whole
from render.source.source import NoiseSource
from render.source.warped import ColourShift, FrameSource, WarpedCanvas
from render.source.warping import extended_reader, warp

SHAPE = (60, 84)
REFLECT: tuple[AxisMode, AxisMode] = ("reflect", "reflect")


def picture(shape: tuple[int, int] = SHAPE, seed: int = 3) -> Pixels:
    return fractal_noise(seed, shape, whole(*shape))


def reader(pixels: Pixels):
    return lambda rect: pixels[slice(*rect.rows), slice(*rect.columns)]


def warped(
    pixels: Pixels, to_picture: Affine, out_shape: tuple[int, int], rect: Rect | None = None, modes=REFLECT
) -> Pixels:
    shape = pixels.shape[0], pixels.shape[1]
    return warp(reader(pixels), shape, modes, to_picture, out_shape, rect or whole(*out_shape))


maps = st.builds(
    Affine.similarity,
    st.floats(0.3, 2.5),
    st.one_of(st.just(0.0), st.floats(-400, 400), st.sampled_from([45.0, 90.0, 135.0, 180.0, 270.0])),
    st.builds(Point, st.floats(-20, 100), st.floats(-20, 100)),
    st.builds(Point, st.floats(-30, 30), st.floats(-30, 30)),
)


@settings(max_examples=60, deadline=None)
@given(maps, st.integers(0, 40), st.integers(0, 50), st.integers(1, 30), st.integers(1, 33), st.booleans())
def test_any_rectangle_of_a_warp_is_bit_identical_to_the_whole(
    to_picture: Affine, top: int, left: int, height: int, width: int, wraps: bool
) -> None:
    out_shape = (44, 57)
    modes: tuple[AxisMode, AxisMode] = ("reflect", "wrap") if wraps else REFLECT
    rect = whole(*out_shape).intersect(Rect(Interval(top, top + height), Interval(left, left + width)))
    all_pixels = warped(picture(), to_picture, out_shape, modes=modes)
    part = warped(picture(), to_picture, out_shape, rect, modes)
    np.testing.assert_array_equal(part, all_pixels[slice(*rect.rows), slice(*rect.columns)])


def test_a_warp_larger_than_a_piece_equals_its_parts() -> None:
    """Turned results are computed in pieces of 128 x 512 px."""
    pixels, to_picture = picture((150, 300)), Affine.similarity(0.5, 17, Point(100, 80), Point(3, 4))
    full = warped(pixels, to_picture, (290, 600))
    rect = Rect(Interval(100, 200), Interval(400, 600))
    np.testing.assert_array_equal(warped(pixels, to_picture, (290, 600), rect), full[100:200, 400:600])


def test_the_identity_and_whole_shifts_move_pixels_unchanged() -> None:
    pixels = picture()
    np.testing.assert_array_equal(warped(pixels, Affine(), SHAPE), pixels)
    shifted = warped(pixels, Affine(x0=5.0, y0=3.0), SHAPE)
    np.testing.assert_array_equal(shifted[:-3, :-5], pixels[3:, 5:])


def test_a_quarter_of_a_turn_moves_pixels_unchanged() -> None:
    """The map from the result to the picture turns counterclockwise, so the picture turns clockwise."""
    pixels = picture((40, 40))
    to_picture = Affine.similarity(1.0, 90, Point(20, 20), Point(0, 0))
    np.testing.assert_allclose(warped(pixels, to_picture, (40, 40)), np.rot90(pixels, -1), atol=1e-3)


def test_scaling_a_whole_picture_is_the_resampling_of_octaves_inside() -> None:
    pixels = picture()
    doubled = warped(pixels, Affine.scaling(0.5, 0.5), (120, 168))
    # At the ends octaves cut the filter, and warps mirror the picture.
    np.testing.assert_allclose(doubled[8:-8, 8:-8], resample_array(pixels, (120, 168))[8:-8, 8:-8], atol=1e-3)
    halved = warped(pixels, Affine.scaling(2, 2), (30, 42))
    np.testing.assert_allclose(halved[4:-4, 4:-4], resample_array(pixels, (30, 42))[4:-4, 4:-4], atol=1e-3)


@pytest.mark.parametrize("degrees", [3.0, 31.0, 44.9, 97.0, 200.0, -60.0])
def test_a_turned_wave_is_the_wave_at_turned_positions(degrees: float) -> None:
    def wave(x: np.ndarray, y: np.ndarray) -> np.ndarray:
        return 128 + 60 * np.sin(x / 5.0) * np.cos(y / 7.0)

    y, x = np.mgrid[0:120, 0:120] + 0.5
    pixels = np.repeat(wave(x, y)[..., None], 3, axis=-1).astype(np.float32)
    to_picture = Affine.similarity(1 / 1.1, degrees, Point(60, 60), Point(0, 0))
    result = warped(pixels, to_picture, (120, 120))
    there = to_picture.xx * x + to_picture.xy * y + to_picture.x0, to_picture.yx * x + to_picture.yy * y + to_picture.y0
    inside = (np.hypot(there[0] - 60, there[1] - 60) < 50)[..., None] & np.ones(3, bool)
    expected = np.repeat(wave(*there)[..., None], 3, axis=-1)
    assert np.abs(result - expected)[inside].max() < 0.7


def test_shrinking_does_not_alias_however_it_is_turned() -> None:
    """Stripes of 2 px become grey."""
    stripes = np.zeros((120, 120, 3), np.float32)
    stripes[:, ::2] = 255
    for degrees in (0.0, 12.0):
        small = warped(stripes, Affine.similarity(4, degrees, Point(0, 0), Point(20, 10)), (20, 20))
        assert np.abs(small - 127.5).max() < 6


def test_beyond_its_ends_a_picture_is_mirrored_or_repeated() -> None:
    pixels = picture()
    mirrored = extended_reader(reader(pixels), SHAPE, REFLECT)(Rect(Interval(-3, 2), Interval(80, 90)))
    np.testing.assert_array_equal(mirrored, np.pad(pixels, ((3, 0), (0, 6), (0, 0)), "reflect")[:5, 80:])
    repeated = extended_reader(reader(pixels), SHAPE, ("wrap", "wrap"))(Rect(Interval(-3, 2), Interval(80, 90)))
    np.testing.assert_array_equal(repeated, np.pad(pixels, ((3, 0), (0, 6), (0, 0)), "wrap")[:5, 80:])


def stored(path: Path, pixels: Pixels) -> WarpedCanvas:
    store.create(path, (pixels.shape[0], pixels.shape[1]), "token")
    CanvasStore(path, "token", mode="r+").write(whole(*pixels.shape[:2]), pixels)
    return WarpedCanvas(path, "token", (pixels.shape[0], pixels.shape[1]), Affine())


def test_a_frame_blends_the_held_canvas_with_the_picture(tmp_path: Path) -> None:
    canvas, source = picture(), NoiseSource(8)
    shift = ColourShift((0.9, 1.0, 1.1), (3.0, 0.0, -4.0))
    frame = FrameSource(stored(tmp_path / "canvas", canvas), colours=shift, fade=0.25)
    expected = 0.75 * (canvas * shift.gain + shift.offset) + 0.25 * source.at(SHAPE, whole(*SHAPE))
    pixels = frame.applied_to(source).at(SHAPE, whole(*SHAPE))
    np.testing.assert_allclose(pixels, np.clip(expected, 0, 255), atol=1e-3)
    assert frame == FrameSource(frame.canvas, colours=shift, fade=0.25)


@settings(max_examples=25, deadline=None)
@given(maps, maps, st.integers(0, 25), st.integers(0, 40), st.sampled_from([SHAPE, (43, 60)]))
def test_any_rectangle_of_a_frame_is_bit_identical_to_the_whole(
    tmp_path_factory: pytest.TempPathFactory,
    to_canvas: Affine,
    to_picture: Affine,
    top: int,
    left: int,
    shape: tuple[int, int],
) -> None:
    tmp_path = tmp_path_factory.mktemp("frame")
    canvas = stored(tmp_path / "canvas", picture())
    ending = WarpedCanvas(canvas.path, canvas.token, canvas.shape, to_picture)
    frame = FrameSource(
        WarpedCanvas(canvas.path, canvas.token, canvas.shape, to_canvas), fade=0.3, to_picture=to_picture, noise=5,
        ending=(ending, 0.5), picture_detail=3.0, colours=ColourShift((1.1, 1.0, 0.9), (1.0, 2.0, 3.0)),
    )  # fmt: skip
    pixels = frame.applied_to(NoiseSource(8))
    rect = Rect(Interval(top, top + 17), Interval(left, left + 20))
    part = pixels.at(shape, rect)
    np.testing.assert_array_equal(part, pixels.at(shape, whole(*shape))[slice(*rect.rows), slice(*rect.columns)])
    assert part.min() >= 0 and part.max() <= 255


def test_noise_begins_where_the_canvas_ends(tmp_path: Path) -> None:
    canvas = stored(tmp_path / "canvas", picture())
    out = Affine.similarity(1.5, 0, Point(42, 30), Point(0, 0))
    frame = FrameSource(WarpedCanvas(canvas.path, canvas.token, canvas.shape, out), noise=9)
    pixels = frame.applied_to(NoiseSource(8)).at(SHAPE, whole(*SHAPE))
    noise = fractal_noise(9, SHAPE, whole(*SHAPE))
    np.testing.assert_allclose(pixels[:9], noise[:9].clip(0, 255), atol=1e-4)
    np.testing.assert_array_equal(pixels[20:40, 30:50], warped(picture(), out, SHAPE)[20:40, 30:50].clip(0, 255))


def test_noise_moves_with_the_picture_and_keeps_its_contrast(tmp_path: Path) -> None:
    """A frame that zooms out shows, nearer to the middle, the noise that the frame before had at its edge."""
    canvas = stored(tmp_path / "canvas", picture())
    away = Affine(x0=-1e5)

    def noise(camera: Affine) -> Pixels:
        frame = FrameSource(WarpedCanvas(canvas.path, canvas.token, canvas.shape, away), to_picture=camera, noise=9)
        return frame.applied_to(NoiseSource(8)).at(SHAPE, whole(*SHAPE))

    def camera(scale: float) -> Affine:
        return Affine.similarity(scale, 0, Point(42, 30), Point(0, 0))

    earlier, later = noise(camera(1.30)), noise(camera(1.33))
    seen = warped(earlier, camera(1.33 / 1.30), SHAPE)
    inside = np.s_[4:-4, 4:-4]
    assert np.abs(later - seen)[inside].mean() < 0.2 * earlier.std()
    for scale in (1.0, 1.4, 2.0, 37.0):
        assert noise(camera(scale)).std() == pytest.approx(picture(seed=9).std(), rel=0.4)


def test_a_near_picture_is_read_as_sharp_as_it_is(tmp_path: Path) -> None:
    canvas = WarpedCanvas(tmp_path, "", SHAPE, Affine())
    nearer = Affine.similarity(1 / 8, 0, Point(0, 0), Point(0, 0))
    assert FrameSource(canvas, to_picture=nearer, picture_detail=4.0).picture_shape(SHAPE) == (240, 336)
    assert FrameSource(canvas, to_picture=nearer, picture_detail=99.0).picture_shape(SHAPE) == (480, 672)
    assert FrameSource(canvas, to_picture=Affine.scaling(4, 4)).picture_shape(SHAPE) == (15, 21)
    assert FrameSource(canvas).picture_shape((30, 42)) == (30, 42)


def test_similarities_compose_and_invert() -> None:
    first = Affine.similarity(1.3, 25, Point(10, 20), Point(1, 2))
    second = Affine.similarity(0.7, -80, Point(-4, 9), Point(0, 5))
    point = Point(33.0, -12.0)
    assert second.after(first)(point) == pytest.approx(second(first(point)))
    assert first.inverse()(first(point)) == pytest.approx(point)
    assert first.scale == pytest.approx(1.3)
    # A quarter counterclockwise moves what lies to the right to the top: rows count downwards.
    assert Affine.similarity(1, 90, Point(0, 0), Point(0, 0))(Point(1, 0)) == Point(0, -1)
    assert math.isclose(Affine.similarity(2, 0, Point(3, 3), Point(0, 0))(Point(3, 3)).x, 3)
