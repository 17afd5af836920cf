"""Masks: every kind of grey picture means the same, lies on the canvas as the source does, and is the same in parts."""

from __future__ import annotations

import os
import pickle
import tempfile
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from hypothesis import example, given, settings
from hypothesis import strategies as st
from PIL import Image, ImageOps
from scipy.ndimage import gaussian_filter

from render.config.schema import OutputConfig, SourceConfig
from render.errors import UserError
from render.geometry.geometry import Interval, Rect, whole
from render.geometry.source_window import SourceWindow, Span
from render.planning.layout import lay_out
from render.source import mask as masks
from render.source.mask import Mask, open_mask
from render.source.photo import PhotoSource
from tests.source.test_source import encode_png, random_pixels

SOURCE_CONFIG = SourceConfig()
KEY = "objective.mask"


def shares(height: int = 40, width: int = 30) -> np.ndarray:
    """A smooth uint8 mask without symmetry, black at one end and white at the other."""
    rows, columns = np.mgrid[0:1:height * 1j, 0:1:width * 1j]  # fmt: skip
    return np.rint(255 * rows * (0.3 + 0.7 * columns)).astype(np.uint8)


def saved(path: Path, pixels: np.ndarray, **options: Any) -> str:
    Image.fromarray(pixels).save(path, **options)
    return str(path)


def all_of(mask: Mask) -> np.ndarray:
    return mask.at(mask.size, whole(*mask.size))


def read(path: Path | str) -> np.ndarray:
    return all_of(open_mask(str(path), SOURCE_CONFIG, KEY))


# Files


@pytest.mark.parametrize("form", ["png", "webp", "tiff"])
def test_grey_is_a_share_of_white(form: str, tmp_path: Path) -> None:
    options = {"webp": {"lossless": True}}.get(form, {})
    mask = open_mask(saved(tmp_path / f"m.{form}", shares(), **options), SOURCE_CONFIG, KEY)
    assert mask.size == (40, 30)
    everything = all_of(mask)
    assert (everything.dtype, everything.shape) == (np.float32, (40, 30))
    np.testing.assert_allclose(everything, shares() / 255, atol=1e-5)
    assert (everything[shares() == 255] == 1).all()
    assert (everything[shares() == 0] == 0).all()
    assert mask.coverage == pytest.approx(shares().mean() / 255, abs=2e-3)
    assert mask.nbytes == 40 * 30 * 4


def test_a_jpeg_is_read_nearly_so(tmp_path: Path) -> None:
    assert np.abs(read(saved(tmp_path / "m.jpg", shares(), quality=95)) - shares() / 255).max() < 0.02


def test_16_bits_keep_their_precision(tmp_path: Path) -> None:
    deep = random_pixels(20, 10, kind=np.uint16)
    (tmp_path / "deep.png").write_bytes(encode_png(deep, 16, 0))
    np.testing.assert_allclose(read(tmp_path / "deep.png"), deep / 65535, atol=1e-5)


@pytest.mark.parametrize("kind", ["f4", "i1", "i2", "i4", "u4"])
def test_samples_of_any_type_are_shares_of_their_white(kind: str, tmp_path: Path) -> None:
    expected = shares() / 255
    white = 1.0 if kind[0] == "f" else np.iinfo(kind).max
    tifffile.imwrite(tmp_path / "m.tif", (expected * white).astype(kind), photometric="minisblack")
    np.testing.assert_allclose(read(tmp_path / "m.tif"), expected, atol=0.01 if kind == "i1" else 2e-4)


def test_one_bit_and_palettes_are_masks(tmp_path: Path) -> None:
    bits = shares() > 100
    np.testing.assert_array_equal(read(saved(tmp_path / "bits.png", bits)), bits)
    Image.fromarray(shares()).quantize(256).save(tmp_path / "palette.png")
    np.testing.assert_allclose(read(tmp_path / "palette.png"), shares() / 255, atol=1e-5)


@pytest.mark.parametrize("deep", [False, True])
def test_colours_become_luma(deep: bool, tmp_path: Path) -> None:
    """Rec. 709: green counts most, and white is white to the bit."""
    kind = np.uint16 if deep else np.uint8
    pixels = random_pixels(20, 10, 3, kind=kind)
    pixels[0, 0] = np.iinfo(kind).max
    (tmp_path / "m.png").write_bytes(encode_png(pixels, 16 if deep else 8, 2))
    everything = read(tmp_path / "m.png")
    expected = pixels / np.iinfo(kind).max @ [0.2126, 0.7152, 0.0722]
    np.testing.assert_allclose(everything, expected, atol=2e-5)
    assert everything[0, 0] == 1


def test_ink_on_paper_is_black_on_white(tmp_path: Path) -> None:
    inks = np.zeros((8, 8, 4), np.uint8)
    inks[:, 4:] = 255
    Image.fromarray(inks, "CMYK").save(tmp_path / "m.tif")
    everything = read(tmp_path / "m.tif")
    assert everything[:, :4].min() > 0.98
    assert everything[:, 4:].max() < 0.2


@pytest.mark.parametrize("channels", [2, 4])
@pytest.mark.parametrize("depth", [8, 16])
def test_transparency_is_black(depth: int, channels: int, tmp_path: Path) -> None:
    pixels = random_pixels(20, 10, channels, kind=np.uint16 if depth == 16 else np.uint8)
    pixels[0, 0] = 2**depth - 1
    pixels[0, 1], pixels[0, 1, -1] = 2**depth - 1, 0
    (tmp_path / "m.png").write_bytes(encode_png(pixels, depth, channels + 2))
    plain = pixels / (2**depth - 1)
    grey = plain[..., 0] if channels == 2 else plain[..., :3] @ [0.2126, 0.7152, 0.0722]
    everything = read(tmp_path / "m.png")
    np.testing.assert_allclose(everything, grey * plain[..., -1], atol=2e-5)
    assert (everything[0, 0], everything[0, 1]) == (1, 0)


@pytest.mark.parametrize("most", [4096, 16])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_honoured(orientation: int, most: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where it is shrunk by a number that leaves a smaller last sample, which then comes first."""
    monkeypatch.setattr(masks, "_MAX_SIDE_SAMPLES", most)
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = saved(tmp_path / "m.png", shares(45, 31), exif=exif)
    with Image.open(path) as picture:
        expected = np.asarray(ImageOps.exif_transpose(picture), float) / 255
    everything = read(path)
    assert everything.shape == expected.shape
    # The mask is as good as linear: shrunk and stretched again it is itself, but at its ends.
    inner = (slice(3, -3), slice(3, -3))
    np.testing.assert_allclose(everything[inner], expected[inner], atol=0.01)
    np.testing.assert_allclose(everything, expected, atol=0.06)


def test_a_sample_photo_is_a_mask() -> None:
    mask = open_mask("sample:retina", SOURCE_CONFIG, KEY)
    assert mask.size == (1411, 1411)
    assert 0.1 < mask.coverage < 0.5


# Settings


def test_inverting_swaps_black_and_white(tmp_path: Path) -> None:
    path = saved(tmp_path / "m.png", shares())
    plain, inverted = open_mask(path, SOURCE_CONFIG, KEY), open_mask({"image": path, "invert": True}, SOURCE_CONFIG, KEY)
    np.testing.assert_array_equal(all_of(inverted), 1 - all_of(plain))
    assert inverted.coverage == pytest.approx(1 - plain.coverage, abs=1e-5)


def test_a_mapping_of_only_an_image_is_the_image(tmp_path: Path) -> None:
    path = saved(tmp_path / "m.png", shares())
    assert open_mask({"image": path}, SOURCE_CONFIG, KEY) == open_mask(path, SOURCE_CONFIG, KEY)


def test_the_digest_tells_contents_and_settings_apart(tmp_path: Path) -> None:
    path = saved(tmp_path / "m.png", shares())
    other = saved(tmp_path / "other.png", shares(41, 30))
    (tmp_path / "copy.png").write_bytes(Path(path).read_bytes())
    written: list[Any] = [path, other, {"image": path, "invert": True}, {"image": path, "feather": 1}]
    digests = [open_mask(one, SOURCE_CONFIG, KEY).sha256 for one in written]
    digests.append(open_mask({"image": path, "feather": 1}, SOURCE_CONFIG, KEY, ("wrap", "wrap")).sha256)
    assert len(set(digests)) == len(digests)
    assert open_mask(str(tmp_path / "copy.png"), SOURCE_CONFIG, "objective.regions.1.mask").sha256 == digests[0]
    assert open_mask({"image": path, "feather": 1.0, "invert": False}, SOURCE_CONFIG, KEY).sha256 == digests[3]


def disc(height: int, width: int) -> np.ndarray:
    rows, columns = np.mgrid[0:height, 0:width]
    return (255 * ((rows + 0.5 - 0.3 * height) ** 2 + (columns + 0.5 - 0.7 * width) ** 2 < (0.25 * height) ** 2)).astype(
        np.uint8
    )


@pytest.mark.parametrize("feather", [0.2, 1, 5, 20, 100])
def test_feather_is_a_gaussian_in_per_cent_of_the_short_side(feather: float, tmp_path: Path) -> None:
    """Against the same blur of all pixels, though it is made of fewer where it is wide."""
    mask = open_mask({"image": saved(tmp_path / "m.png", disc(200, 310)), "feather": feather}, SOURCE_CONFIG, KEY)
    expected = gaussian_filter(disc(200, 310) / 255, feather / 100 * 200, mode="reflect")
    np.testing.assert_allclose(all_of(mask), expected, atol=0.005)


def test_feather_means_the_same_at_any_size(tmp_path: Path) -> None:
    at = []
    for number, scale in enumerate((1, 5)):
        path = saved(tmp_path / f"{number}.png", disc(100 * scale, 130 * scale))
        at.append(open_mask({"image": path, "feather": 6}, SOURCE_CONFIG, KEY).at((100, 130), whole(100, 130)))
    np.testing.assert_allclose(at[0], at[1], atol=0.01)


def test_feather_goes_around_the_seam_of_a_panorama(tmp_path: Path) -> None:
    pixels = np.zeros((40, 60), np.uint8)
    pixels[:, :10] = 255
    written = {"image": saved(tmp_path / "m.png", pixels), "feather": 10}
    around = all_of(open_mask(written, SOURCE_CONFIG, KEY, ("reflect", "wrap")))
    np.testing.assert_allclose(around[:, 0], around[:, 9], atol=1e-4)
    np.testing.assert_allclose(around[:, -1], around[:, 10], atol=1e-4)
    assert 0.4 < around[0, 0] < 0.6
    assert all_of(open_mask(written, SOURCE_CONFIG, KEY))[0, 0] > 0.9


# Large masks


def test_a_large_mask_is_held_shrunk(tmp_path: Path) -> None:
    """A hundred megapixels, of which no side keeps more than 4096 samples; a line keeps its one."""
    rng = np.random.default_rng(0)
    coarse = rng.integers(0, 256, (50, 125), dtype=np.uint8)
    tall = np.kron(coarse, np.ones((160, 100), np.uint8))
    tifffile.imwrite(tmp_path / "m.tif", tall, tile=(512, 512), compression="zlib")
    mask = open_mask(str(tmp_path / "m.tif"), SOURCE_CONFIG, KEY)
    assert mask.size == (8000, 12500)
    assert mask.pixels.shape == (4000, 3125, 1)
    everything = mask.at((50, 125), whole(50, 125))
    assert np.corrcoef(everything.ravel(), coarse.ravel())[0, 1] > 0.9
    inner = mask.at((8000, 12500), Rect(Interval(1040, 1080), Interval(1030, 1070)))
    np.testing.assert_allclose(inner, coarse[6, 10] / 255, atol=1e-5)
    tifffile.imwrite(tmp_path / "line.tif", np.full((1, 9000), 255, np.uint8))
    line = open_mask(str(tmp_path / "line.tif"), SOURCE_CONFIG, KEY)
    assert line.pixels.shape == (1, 3000, 1)
    assert (line.at((7, 300), whole(7, 300)) == 1).all()


@pytest.mark.parametrize("most", [4096, 16])
def test_a_shrunk_mask_lies_where_the_whole_one_does(most: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Edges fall on samples' borders, so that they are exact."""
    pixels = np.zeros((90, 63), np.uint8)
    pixels[24:60, 12:40] = 255
    monkeypatch.setattr(masks, "_MAX_SIDE_SAMPLES", most)
    mask = open_mask(saved(tmp_path / "m.png", pixels), SOURCE_CONFIG, KEY)
    if most == 16:
        assert mask.pixels.shape == (15, 16, 1)
    np.testing.assert_array_equal(mask.at((15, 63), whole(15, 63)) > 0.5, pixels[::6] > 0)


# On the canvas


@cache
def held(height: int, width: int, invert: bool = False) -> Mask:
    with tempfile.TemporaryDirectory() as directory:
        path = saved(Path(directory) / "m.png", random_pixels(height, width))
        return open_mask({"image": path, "invert": invert}, SOURCE_CONFIG, KEY)


@st.composite
def cuts(draw: st.DrawFn) -> tuple[tuple[int, int], Rect]:
    shape = draw(st.integers(1, 90)), draw(st.integers(1, 90))
    ends = [sorted(draw(st.tuples(st.integers(0, side), st.integers(0, side)))) for side in shape]
    return shape, Rect(*(Interval(*pair) for pair in ends))


beyonds = st.sampled_from(["mirror", "background", "wrap"])


@st.composite
def windows(draw: st.DrawFn) -> SourceWindow | None:
    """Windows of a source: all of it, a part, or more than all; also of a source that has another size."""
    if draw(st.booleans()):
        return None
    spans = []
    for _ in range(2):
        length = draw(st.integers(1, 5000))
        start, stop = sorted(draw(st.tuples(st.floats(-0.5, 1.5), st.floats(-0.5, 1.5))))
        start, extent = min(start, 0.9), max(stop - min(start, 0.9), 0.1)
        span = Span(length, start * length, extent * length, draw(beyonds))
        spans.append(span if span.overhangs else replace(span, beyond=draw(st.sampled_from(["cut", "wrap"]))))
    return SourceWindow(*spans)


@settings(max_examples=300)
@given(st.tuples(st.integers(1, 40), st.integers(1, 40)), windows(), cuts(), st.booleans())
@example((1, 1), None, ((1, 1), whole(1, 1)), False)
@example((33, 20), None, ((33, 20), Rect(Interval(5, 20), Interval(19, 20))), True)
def test_any_part_is_bit_identical_to_the_whole(
    size: tuple[int, int], window: SourceWindow | None, cut: tuple[tuple[int, int], Rect], invert: bool
) -> None:
    shape, rect = cut
    mask = replace(held(*size, invert), window=window)
    everything = mask.at(shape, whole(*shape))
    assert everything.shape == shape
    assert (everything.min() >= 0) & (everything.max() <= 1)
    part = mask.at(shape, rect)
    assert (part.dtype, part.shape) == (np.float32, rect.shape)
    assert part.tobytes() == np.ascontiguousarray(everything[rect.slices_from(whole(*shape))]).tobytes()


@settings(max_examples=100)
@given(st.tuples(st.integers(1, 40), st.integers(1, 40)), windows(), st.tuples(st.integers(1, 90), st.integers(1, 90)))
def test_a_mask_and_its_inverse_make_one_everywhere(
    size: tuple[int, int], window: SourceWindow | None, shape: tuple[int, int]
) -> None:
    """Around the picture, too: what one region leaves the other takes."""
    both = [replace(held(*size, invert), window=window).at(shape, whole(*shape)) for invert in (False, True)]
    np.testing.assert_allclose(both[0] + both[1], 1, atol=5e-5)


LAYOUTS = (
    {"width": 60},
    {"width": 77, "height": 40},
    {"width": 77, "height": 40, "fit": "contain"},
    {"width": 77, "height": 40, "fit": "stretch"},
    {"width": 60, "bleed_mm": 3.0, "dpi": 100},
    {"width": 31, "height": 50, "bleed_mm": 3.0, "dpi": 100, "fit": "contain"},
)


@pytest.mark.parametrize("mode", ["reflect", "wrap"])
@pytest.mark.parametrize("scale", [1, 4])
@pytest.mark.parametrize("options", LAYOUTS)
def test_a_mask_lies_as_the_source_lies(options: dict[str, Any], scale: int, mode: Any, tmp_path: Path) -> None:
    """The source is the mask's own picture, of the same or of four times the size: what is bright is where it is white."""
    grey = np.zeros((44, 60), np.uint8)
    grey[5:30, 10:22], grey[30:, 22:50], grey[:8, 50:] = 255, 120, 200
    rgb = np.repeat(np.kron(grey, np.ones((scale, scale), np.uint8))[..., None], 3, -1)
    modes = (mode, mode)
    layout = lay_out(OutputConfig(**options), (44 * scale, 60 * scale), modes)
    assert layout.window is not None
    source = PhotoSource(rgb.astype(np.float32), "", (0, 0, 0), layout.window)
    mask = open_mask(saved(tmp_path / "m.png", grey), SOURCE_CONFIG, KEY, modes).laid_out(layout.window)
    bright = source.at(layout.shape, whole(*layout.shape))[..., 0] / 255
    everything = mask.at(layout.shape, whole(*layout.shape))
    # Their kernels soften edges differently, and the source's goes beyond.
    difference = np.abs(bright - everything)
    assert difference.mean() < 0.03
    assert np.mean(difference > 0.3) < 0.002
    assert mask.coverage == pytest.approx(everything.mean(dtype=float), abs=0.02)


def test_noise_has_no_frame_and_the_mask_fills_the_canvas(tmp_path: Path) -> None:
    mask = open_mask(saved(tmp_path / "m.png", shares()), SOURCE_CONFIG, KEY)
    stretched = mask.at((40, 300), whole(40, 300))
    np.testing.assert_allclose(stretched[:, 5::10], shares() / 255, atol=0.02)
    wrapping = open_mask(saved(tmp_path / "m.png", shares()), SOURCE_CONFIG, KEY, ("reflect", "wrap"))
    ends = wrapping.at((40, 300), whole(40, 300))[-1, [0, -1]]
    # Half way between the two ends that meet there.
    assert abs(ends[0] - ends[1]) < 0.15
    assert abs(stretched[-1, 0] - stretched[-1, -1]) > 0.6


@pytest.mark.parametrize("shape", [(40, 30), (13, 11), (100, 77), (640, 480)])
def test_black_is_exactly_left_alone_and_white_exactly_dreamed(shape: tuple[int, int], tmp_path: Path) -> None:
    """A pixel further from the edge than a sample, or than its own size, is 0 or 1: no kernel rings into it."""
    pixels = np.zeros((40, 30), np.uint8)
    pixels[10:30, 9:21] = 255
    everything = open_mask(saved(tmp_path / "m.png", pixels), SOURCE_CONFIG, KEY).at(shape, whole(*shape))
    inside = np.ones(shape, bool)
    outside = np.zeros(shape, bool)
    for axis, (length, size, first, last) in enumerate(zip(shape, (40, 30), (10, 9), (30, 21), strict=True)):
        centres = (np.arange(length) + 0.5) * size / length
        far = 0.5 + max(1.0, size / length)
        within = (centres > first + far) & (centres < last - far)
        beyond = (centres < first - far) | (centres > last + far)
        inside &= np.expand_dims(within, 1 - axis)
        outside |= np.expand_dims(beyond, 1 - axis)
    assert inside.any()
    assert outside.any()
    assert (everything[inside] == 1).all()
    assert (everything[outside] == 0).all()


@given(st.tuples(st.integers(1, 300), st.integers(1, 300)))
def test_a_white_mask_is_no_mask_at_any_size(shape: tuple[int, int]) -> None:
    with tempfile.TemporaryDirectory() as directory:
        white = open_mask(saved(Path(directory) / "m.png", np.full((17, 13), 255, np.uint8)), SOURCE_CONFIG, KEY)
    assert (white.at(shape, whole(*shape)) == 1).all()
    assert white.coverage == 1


def test_a_mask_travels(tmp_path: Path) -> None:
    mask = open_mask({"image": saved(tmp_path / "m.png", shares()), "feather": 2}, SOURCE_CONFIG, KEY)
    mask = mask.laid_out(SourceWindow.whole((400, 300)))
    again = pickle.loads(pickle.dumps(mask))
    assert again == mask
    assert again.at((70, 80), whole(70, 80)).tobytes() == mask.at((70, 80), whole(70, 80)).tobytes()


# What is refused


def refusal(written: Any, source_config: SourceConfig = SOURCE_CONFIG) -> str:
    """The one line with which a mask is refused; it names the config key."""
    with pytest.raises(UserError) as caught:
        open_mask(written, source_config, KEY)
    message = str(caught.value)
    assert len(message.splitlines()) == 1, message
    assert message.startswith(KEY)
    return message


def test_what_is_no_file_is_refused(tmp_path: Path) -> None:
    missing = refusal(str(tmp_path / "none.png"))
    for word in ("none.png", "does not exist", "sample:NAME", "hubble"):
        assert word in missing
    assert "noise" not in missing.replace(str(tmp_path), "")
    assert "does not exist" in refusal({"image": str(tmp_path / "none.png")})
    assert "is a directory" in refusal(str(tmp_path))
    assert "did you mean sample:hubble" in refusal("sample:huble")
    os.mkfifo(tmp_path / "pipe")
    assert "device or pipe" in refusal(str(tmp_path / "pipe"))
    assert "does not exist" in refusal("a\0b")


@pytest.mark.parametrize("content", [b"", b"hello\n", b"\x89PNG\r\n\x1a\n", b"II*\0"])
def test_what_is_no_picture_is_refused(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "m.png").write_bytes(content)
    assert "is no whole PNG, JPEG, WebP or TIFF" in refusal(str(tmp_path / "m.png"))


@pytest.mark.parametrize("share", [0.3, 0.99])
@pytest.mark.parametrize("form", ["png", "jpeg", "tiff"])
def test_a_truncated_mask_is_refused(form: str, share: float, tmp_path: Path) -> None:
    path = tmp_path / "m"
    saved(path, random_pixels(200, 180), format=form)
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    assert "is no whole" in refusal(str(path))


def test_a_mask_too_large_is_refused_before_it_is_read(tmp_path: Path) -> None:
    path = saved(tmp_path / "m.png", shares(100, 100))
    assert "source.max_megapixels=0.0099" in refusal(path, SourceConfig(max_megapixels=0.0099))


@pytest.mark.parametrize(
    ("written", "words"),
    [
        ({"image": "m", "fether": 1}, "did you mean 'feather'"),
        ({"image": "m", "zzz": 1}, "a mask has image, invert, feather"),
        ({"invert": True}, "image=None"),
        ({"image": 3}, "image=3"),
        ({"image": "m", "invert": "yes"}, "true or false"),
        *(
            ({"image": "m", "feather": value}, "must be 0, or 0.001 to 100")
            for value in (-1, 1e-310, float("nan"), float("inf"), 100.1, "2", True, None)
        ),
        (3, "is no mask"),
        (None, "is no mask"),
        (["m"], "is no mask"),
    ],
)
def test_settings_that_mean_nothing_are_refused(written: Any, words: str) -> None:
    assert words in refusal(written)


def test_a_mask_that_matches_nothing_is_refused(tmp_path: Path) -> None:
    black = saved(tmp_path / "black.png", np.zeros((20, 10), np.uint8))
    assert "matches nothing: it is black" in refusal(black)
    white = saved(tmp_path / "white.png", np.full((20, 10), 255, np.uint8))
    assert "matches nothing" in refusal({"image": white, "invert": True})
    assert open_mask({"image": black, "invert": True}, SOURCE_CONFIG, KEY).coverage == 1


def test_a_mask_whose_white_is_cropped_away_is_refused(tmp_path: Path) -> None:
    pixels = np.zeros((20, 30), np.uint8)
    pixels[:3] = 255
    mask = open_mask(saved(tmp_path / "m.png", pixels), SOURCE_CONFIG, KEY)
    window = lay_out(OutputConfig(width=300, height=50), (2000, 3000)).window
    with pytest.raises(UserError, match=r"^objective\.mask '.*m\.png' matches nothing.*the canvas shows"):
        mask.laid_out(window)
    assert mask.laid_out(SourceWindow.whole((2000, 3000))).coverage == pytest.approx(0.15, abs=0.01)


@pytest.mark.parametrize("odd", [np.nan, np.inf, -np.inf])
def test_values_that_are_not_finite_are_refused(odd: float, tmp_path: Path) -> None:
    pixels = (shares() / 255).astype(np.float32)
    pixels[7, 9] = odd
    tifffile.imwrite(tmp_path / "m.tif", pixels)
    assert "not finite" in refusal(str(tmp_path / "m.tif"))


@pytest.mark.parametrize(("scale", "words"), [(255, "to 255 of white"), (-1, "from -1 to")])
def test_float_values_that_are_no_shares_are_refused(scale: float, words: str, tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "m.tif", (shares() / 255 * scale).astype(np.float32))
    assert words in refusal(str(tmp_path / "m.tif"))


def test_channels_that_are_no_colours_are_refused(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "five.tif", random_pixels(20, 10, 5), photometric="rgb", extrasamples=(0, 0))
    assert "5 channels" in refusal(str(tmp_path / "five.tif"))
