"""Colours that files state otherwise than by an ICC profile, in the formats' own order, against formulas and littleCMS."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import pyvips
import tifffile
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageCms

from render.config.schema import SourceConfig
from render.errors import UserError
from render.preflight.preflight import Request, inspect
from render.preflight.print_report import warnings
from render.source.colour_space import (
    ADOBE,
    ADOBE_GAMMA,
    SRGB,
    ColourSpace,
    coded_space,
    gamma_curve,
    is_sensible,
    srgb_curve,
)
from render.source.mask import open_mask
from render.source.photo import read_photo, read_small
from tests.source.test_pyramid import at, both
from tests.source.test_source import chunk, encode_png, fixed, icc_profile, p3_profile, p3_to_srgb, photo, srgb_encoded
from tests.support.tiff_files import Page, tags, write

HOW = SourceConfig()
COLOUR = (160, 80, 109)
#: Published matrices from light to XYZ under D65: CSS Color 4, 10.2; Adobe RGB (1998), 4.3.6.1; SMPTE EG 432-1; BT.2087.
TO_XYZ = {
    "srgb": [[0.4123908, 0.3575843, 0.1804808], [0.2126390, 0.7151687, 0.0721923], [0.0193308, 0.1191948, 0.9505322]],
    "adobe": [[0.57667, 0.18556, 0.18823], [0.29734, 0.62736, 0.07529], [0.02703, 0.07069, 0.99134]],
    "p3": [[0.48657, 0.26567, 0.19822], [0.22897, 0.69174, 0.07929], [0.0, 0.04511, 1.04394]],
    "bt2020": [[0.636958, 0.144617, 0.168881], [0.262700, 0.677998, 0.059302], [0.0, 0.028073, 1.060985]],
}


def linear(values: np.ndarray) -> np.ndarray:
    """IEC 61966-2-1: light of sRGB values 0..1."""
    return np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)


def bt709_light(values: np.ndarray) -> np.ndarray:
    """ITU-T H.273, table 3, value 1, solved for light."""
    excess = 0.099296826809442
    return np.where(values < 4.5 * 0.018053968510807, values / 4.5, ((values + excess) / (1 + excess)) ** (1 / 0.45))


def expected(light: np.ndarray, space: str = "srgb") -> np.ndarray:
    """sRGB 0..255 of light 0..1 in a space, by the published matrices; grey has none."""
    if light.ndim == 2:
        return 255 * srgb_encoded(light)
    matrix = np.linalg.inv(np.array(TO_XYZ["srgb"])) @ np.array(TO_XYZ[space])
    return 255 * srgb_encoded(light @ matrix.T)


def gama(exponent: float) -> bytes:
    return chunk(b"gAMA", struct.pack(">I", round(100_000 / exponent)))


def chrm(chromaticities: tuple[float, ...]) -> bytes:
    return chunk(b"cHRM", struct.pack(">8I", *(round(100_000 * value) for value in chromaticities)))


def cicp(primaries: int, transfer: int, *, matrix: int = 0, full: int = 1) -> bytes:
    return chunk(b"cICP", bytes([primaries, transfer, matrix, full]))


def iccp(profile: bytes) -> bytes:
    return chunk(b"iCCP", b"icc\0\0" + zlib.compress(profile))


SRGB_CHUNK = chunk(b"sRGB", b"\0")


def png(path: Path, depth: int, *chunks: bytes, pixels: np.ndarray | None = None) -> np.ndarray:
    """Writes a PNG of many colours with these chunks, and returns its values 0..1."""
    values = photo(60, 50) if pixels is None else pixels
    stored = values.astype(np.uint16) * 257 if depth == 16 else values
    path.write_bytes(encode_png(stored, depth, 2 if values.ndim == 3 else 0, *chunks))
    return values / 255


@pytest.mark.parametrize("depth", [8, 16])
@pytest.mark.parametrize(
    ("chunks", "light", "space"),
    [
        ([gama(1.0)], lambda values: values, "srgb"),
        ([gama(1.8)], lambda values: values**1.8, "srgb"),
        ([gama(ADOBE_GAMMA), chrm(ADOBE)], lambda values: values**ADOBE_GAMMA, "adobe"),
        ([chrm(ADOBE)], linear, "adobe"),
        ([cicp(12, 13)], linear, "p3"),
        ([cicp(9, 8)], lambda values: values, "bt2020"),
        ([cicp(1, 1)], bt709_light, "srgb"),
        ([cicp(9, 14)], bt709_light, "bt2020"),
        ([cicp(1, 4)], lambda values: values**2.2, "srgb"),
    ],
    ids=["linear", "gamma 1.8", "Adobe", "cHRM alone", "P3", "BT.2020 linear", "BT.709", "BT.2020", "BT.470M curve"],
)
def test_png_chunks_about_colour_are_honoured(
    chunks: list[bytes], light: Any, space: str, depth: int, tmp_path: Path
) -> None:
    values = png(tmp_path / "a.png", depth, *chunks)
    reference = expected(light(values), space)
    np.testing.assert_allclose(read_photo(tmp_path / "a.png", HOW), reference, atol=0.35)
    memory, large = both(tmp_path / "a.png")
    np.testing.assert_allclose(at(large, (60, 50)), memory.pixels, atol=0.01)
    assert read_small(tmp_path / "a.png", HOW, 10**6) == pytest.approx(memory.pixels, abs=0.01)
    assert any("stated by" in warning for warning in warnings(inspect(Request(tmp_path / "a.png"))))


def test_what_browsers_show_of_the_cases(tmp_path: Path) -> None:
    flat = np.full((8, 8, 3), COLOUR, np.uint8)
    png(tmp_path / "p3.png", 8, cicp(12, 13), pixels=flat)
    np.testing.assert_allclose(read_photo(tmp_path / "p3.png", HOW)[0, 0], (172, 74, 110), atol=0.6)
    light = np.rint(65535 * linear(flat / 255)).astype(np.uint16)
    (tmp_path / "linear.png").write_bytes(encode_png(light, 16, 2, gama(1.0)))
    np.testing.assert_allclose(read_photo(tmp_path / "linear.png", HOW)[0, 0], COLOUR, atol=0.05)


@pytest.mark.parametrize("chunks", [[], [SRGB_CHUNK], [gama(2.2)], [gama(2.2), chrm(SRGB)], [cicp(1, 13)], [chrm(SRGB)]])
def test_the_ways_to_say_srgb_leave_every_value(chunks: list[bytes], tmp_path: Path) -> None:
    """gAMA of 1/2.2 is what encoders write beside sRGB (PNG, third edition, 11.3.2.5)."""
    values = png(tmp_path / "a.png", 8, *chunks)
    np.testing.assert_allclose(read_photo(tmp_path / "a.png", HOW), 255 * values, atol=1e-3)


@pytest.mark.parametrize(
    ("chunks", "counts"),
    [
        ([cicp(12, 13), iccp(p3_profile()), gama(1.0)], "cicp"),
        ([cicp(12, 13), SRGB_CHUNK, gama(1.0)], "cicp"),
        ([iccp(p3_profile()), gama(1.0), chrm(ADOBE)], "iccp"),
        ([SRGB_CHUNK, gama(1.0), chrm(ADOBE)], "srgb"),
        ([gama(1.0)], "gama"),
        ([cicp(2, 2), gama(1.0)], "gama"),
        ([cicp(12, 13, matrix=1), gama(1.0)], "gama"),
        ([chunk(b"cICP", b"\x0c"), SRGB_CHUNK], "srgb"),
        ([chunk(b"gAMA", bytes(4)), chrm(SRGB)], "srgb"),
        ([chrm((0.3, 0.3, 0.3, 0.3, 0.3, 0.3, 0.3, 0.3))], "srgb"),
    ],
)
def test_the_order_of_chunks_is_the_formats(chunks: list[bytes], counts: str, tmp_path: Path) -> None:
    values = png(tmp_path / "a.png", 8, *chunks)
    reference = {
        "cicp": expected(linear(values), "p3"),
        "iccp": p3_to_srgb(values),
        "srgb": 255 * values,
        "gama": expected(values),
    }[counts]
    np.testing.assert_allclose(read_photo(tmp_path / "a.png", HOW), reference, atol=2 if counts == "iccp" else 0.35)


def test_narrow_range_is_stretched(tmp_path: Path) -> None:
    for depth, scale in ((8, 1), (16, 256)):
        stored = np.array([[[16, 126, 235]]], np.uint16) * scale
        (tmp_path / "a.png").write_bytes(encode_png(stored, depth, 2, cicp(1, 13, full=0)))
        np.testing.assert_allclose(read_photo(tmp_path / "a.png", HOW)[0, 0], (0, 255 * 110 / 219, 255), atol=0.05)


def test_grey_has_its_curve_and_a_palette_its_colours(tmp_path: Path) -> None:
    values = png(tmp_path / "grey.png", 8, gama(1.0), pixels=photo(60, 50)[..., 2])
    np.testing.assert_allclose(read_photo(tmp_path / "grey.png", HOW)[..., 0], expected(values), atol=0.05)
    indices = Image.fromarray(photo(60, 50)).quantize(32)
    indices.save(tmp_path / "palette.png")
    content = (tmp_path / "palette.png").read_bytes()
    (tmp_path / "palette.png").write_bytes(content[:33] + cicp(12, 13) + content[33:])
    reference = expected(linear(np.asarray(indices.convert("RGB")) / 255), "p3")
    np.testing.assert_allclose(read_photo(tmp_path / "palette.png", HOW), reference, atol=0.35)


def test_transparency_has_no_curve(tmp_path: Path) -> None:
    pixels = np.concatenate([photo(60, 50), np.full((60, 50, 1), 64, np.uint8)], -1)
    (tmp_path / "a.png").write_bytes(encode_png(pixels, 8, 6, gama(1.0)))
    reference = 64 / 255 * expected(pixels[..., :3] / 255) + (1 - 64 / 255) * 255
    np.testing.assert_allclose(read_photo(tmp_path / "a.png", HOW), reference, atol=0.05)


@pytest.mark.parametrize(("transfer", "name"), [(16, "PQ"), (18, "HLG"), (9, "transfer 9")])
def test_colours_that_only_a_guess_would_convert_are_refused(transfer: int, name: str, tmp_path: Path) -> None:
    png(tmp_path / "hdr.png", 16, cicp(9, transfer))
    for read in (lambda: read_photo(tmp_path / "hdr.png", HOW), lambda: inspect(Request(tmp_path / "hdr.png"))):
        with pytest.raises(UserError, match=name) as caught:
            read()
        assert "convert it to sRGB" in str(caught.value)


def test_a_mask_is_shares_whatever_colours_are_stated(tmp_path: Path) -> None:
    values = png(tmp_path / "a.png", 8, gama(1.0), pixels=photo(60, 50)[..., 2])
    np.testing.assert_allclose(open_mask(str(tmp_path / "a.png"), HOW, "mask").pixels[..., 0], values, atol=1e-6)


# EXIF and TIFF


def camera(space: int, index: str | None) -> Image.Exif:
    exif = Image.Exif()
    exif[0x010F] = "MAKER"
    camera_ifd = exif.get_ifd(0x8769)
    camera_ifd[0xA001] = space
    if index is not None:
        camera_ifd[0xA005] = {1: index, 2: b"0100"}
    return exif


ADOBE_SAID = [(2, None), (65535, "R03"), (2, "R03")]
SRGB_SAID = [(1, None), (65535, None), (65535, "R98"), (1, "R03")]


@pytest.mark.parametrize("form", ["jpeg", "webp", "png", "late.png", "tiff"])
@pytest.mark.parametrize(("space", "index"), ADOBE_SAID + SRGB_SAID)
def test_exif_tells_adobe_rgb(space: int, index: str | None, form: str, tmp_path: Path) -> None:
    path = tmp_path / f"a.{form}"
    lossless = {"jpeg": {"quality": 100, "subsampling": 0}, "webp": {"lossless": True}}.get(form, {})
    if form == "tiff":
        # Pillow does not write EXIF into TIFFs.
        linked = {40965: Page({1: (2, index.encode() + b"\0")}, [])} if index else {}
        exif = Page({0xA001: (3, [space])}, [], links=linked)
        write(path, Page(tags(50, 60, 8, 3, 2), [photo(60, 50).tobytes()], links={34665: exif}))
    elif form == "late.png":
        late = chunk(b"eXIf", camera(space, index).tobytes().removeprefix(b"Exif\0\0"))
        content = encode_png(photo(60, 50), 8, 2)
        path.write_bytes(content[:-12] + late + content[-12:])
    else:
        Image.fromarray(photo(60, 50)).save(path, exif=camera(space, index), **lossless)
    with Image.open(path) as independent:
        stored = np.asarray(independent) / 255
    reference = expected(stored**ADOBE_GAMMA, "adobe") if (space, index) in ADOBE_SAID else 255 * stored
    # Decoders of JPEG differ by a level.
    np.testing.assert_allclose(read_photo(path, HOW), reference, atol=2.5 if form == "jpeg" else 0.35)


def test_adobe_rgb_comes_out_as_littlecms_has_it(tmp_path: Path) -> None:
    """By a profile made of the standard's numbers."""
    d50 = np.array([[0.60974, 0.20528, 0.14919], [0.31111, 0.62567, 0.06322], [0.01947, 0.06087, 0.74457]])
    colorants = {
        name: b"XYZ \0\0\0\0" + fixed(*column) for name, column in zip((b"rXYZ", b"gXYZ", b"bXYZ"), d50.T, strict=True)
    }
    curve = b"curv\0\0\0\0" + struct.pack(">IH", 1, 563)
    profile = icc_profile(b"RGB ", {**colorants, **dict.fromkeys((b"rTRC", b"gTRC", b"bTRC"), curve)})
    with (tmp_path / "adobe.icc").open("wb") as file:
        file.write(profile)
    Image.fromarray(photo(60, 50)).save(tmp_path / "a.png", exif=camera(2, None))
    transform = ImageCms.buildTransform(
        str(tmp_path / "adobe.icc"), ImageCms.createProfile("sRGB"), "RGB", "RGB", ImageCms.Intent.RELATIVE_COLORIMETRIC
    )
    reference = np.asarray(ImageCms.applyTransform(Image.fromarray(photo(60, 50)), transform)).astype(float)
    assert np.percentile(np.abs(read_photo(tmp_path / "a.png", HOW) - reference), 99.9) <= 1.6


@pytest.mark.parametrize("form", ["jpeg", "webp", "png", "tiff"])
def test_a_profile_goes_before_exif(form: str, tmp_path: Path) -> None:
    path = tmp_path / f"a.{form}"
    lossless = {"jpeg": {"quality": 100, "subsampling": 0}, "webp": {"lossless": True}}.get(form, {})
    Image.fromarray(photo(60, 50)).save(path, exif=camera(2, "R03"), icc_profile=p3_profile(), **lossless)
    with Image.open(path) as independent:
        stored = np.asarray(independent) / 255
    np.testing.assert_allclose(read_photo(path, HOW), p3_to_srgb(stored), atol=3 if form == "jpeg" else 2)


def test_a_pngs_chunks_go_before_its_exif(tmp_path: Path) -> None:
    exif = chunk(b"eXIf", camera(2, "R03").tobytes().removeprefix(b"Exif\0\0"))
    values = png(tmp_path / "a.png", 8, gama(1.0), exif)
    np.testing.assert_allclose(read_photo(tmp_path / "a.png", HOW), expected(values), atol=0.35)
    values = png(tmp_path / "b.png", 8, SRGB_CHUNK, exif)
    np.testing.assert_allclose(read_photo(tmp_path / "b.png", HOW), 255 * values, atol=1e-3)


@pytest.mark.parametrize("bits", [8, 16])
def test_exif_in_a_deep_tiff_tells_adobe_rgb(bits: int, tmp_path: Path) -> None:
    values = photo(60, 50)
    stored = values.astype(np.uint16) * 257 if bits == 16 else values
    exif = Page({0xA001: (3, [65535])}, [], links={40965: Page({1: (2, b"R03\0")}, [])})
    page = Page(tags(50, 60, bits, 3, 2), [stored.astype("<u2" if bits == 16 else "u1").tobytes()], links={34665: exif})
    write(tmp_path / "a.tif", page)
    reference = expected((values / 255) ** ADOBE_GAMMA, "adobe")
    np.testing.assert_allclose(read_photo(tmp_path / "a.tif", HOW), reference, atol=0.35)


def rationals(*values: float) -> tuple[int, bytes]:
    return 5, b"".join(struct.pack("<II", round(value * 1_000_000), 1_000_000) for value in values)


def test_a_tiffs_colorimetry_is_honoured(tmp_path: Path) -> None:
    """TIFF 6.0, section 20: white point, primaries, and a table of light for each value."""
    values = photo(60, 50)
    table = np.rint(65535 * np.linspace(0, 1, 256) ** 1.8).astype("<u2")
    entries = {
        **tags(50, 60, 8, 3, 2),
        **{318: rationals(*ADOBE[:2]), 319: rationals(*ADOBE[2:]), 301: (3, np.tile(table, 3).tobytes())},
    }
    write(tmp_path / "a.tif", Page(entries, [values.tobytes()]))
    reference = expected((values / 255) ** 1.8, "adobe")
    np.testing.assert_allclose(read_photo(tmp_path / "a.tif", HOW), reference, atol=0.5)


def test_a_level_of_a_pyramid_has_the_stated_colours(tmp_path: Path) -> None:
    pixels = np.full((256, 384, 3), COLOUR, np.uint8)
    exif = Page({0xA001: (3, [2])}, [])
    copy = Page({**tags(192, 128, 8, 3, 2), 254: (4, [1])}, [pixels[::2, ::2].tobytes()])
    write(tmp_path / "a.tif", Page(tags(384, 256, 8, 3, 2), [pixels.tobytes()], links={34665: exif}), copy)
    _, large = both(tmp_path / "a.tif")
    reference = expected((np.array(COLOUR) / 255) ** ADOBE_GAMMA, "adobe")
    for shape in ((256, 384), (128, 192), (64, 96)):
        read = at(large, shape)
        np.testing.assert_allclose(read, np.broadcast_to(reference, read.shape), atol=0.35)


def test_inks_are_not_adobe_rgb(tmp_path: Path) -> None:
    inks = Image.new("CMYK", (32, 32), (10, 120, 200, 40))
    inks.save(tmp_path / "plain.jpg", quality=100)
    inks.save(tmp_path / "said.jpg", quality=100, exif=camera(2, "R03"))
    np.testing.assert_array_equal(read_photo(tmp_path / "said.jpg", HOW), read_photo(tmp_path / "plain.jpg", HOW))


# Spaces


@given(st.lists(st.floats(-1, 3), min_size=8, max_size=8))
def test_whatever_is_called_sensible_has_a_finite_matrix(chromaticities: list[float]) -> None:
    if is_sensible(chromaticities):
        matrix = ColourSpace("a", (srgb_curve,), tuple(chromaticities)).matrix
        assert matrix is None or np.isfinite(matrix).all()


@given(st.integers(0, 255), st.integers(0, 255), st.booleans(), st.sampled_from([8, 16]))
def test_every_code_point_is_a_space_or_refused(primaries: int, transfer: int, full: bool, bits: int) -> None:
    try:
        space = coded_space(primaries, transfer, full, bits)
    except ValueError:
        return
    if space is not None:
        light = space.light(np.linspace(0, 1, 50), 0)
        assert light[0] == pytest.approx(0, abs=1e-6)
        assert light[-1] == pytest.approx(1, abs=1e-6)
        assert (np.diff(light) >= 0).all()
        if space.matrix is not None:
            # White stays white.
            np.testing.assert_allclose(space.matrix @ np.ones(3), 1, atol=1e-3)


def test_a_gamma_is_a_power() -> None:
    assert gamma_curve(2.0)(np.array([0.5])) == pytest.approx(0.25)


def test_tifffile_agrees_on_what_was_written(tmp_path: Path) -> None:
    """The files made by hand here are TIFFs to others, too."""
    page = Page(tags(50, 60, 8, 3, 2), [photo(60, 50).tobytes()], links={34665: Page({0xA001: (3, [2])}, [])})
    write(tmp_path / "a.tif", page)
    with tifffile.TiffFile(tmp_path / "a.tif") as file:
        assert file.pages[0].tags[34665].value["ColorSpace"] == 2
        np.testing.assert_array_equal(file.pages[0].asarray(), photo(60, 50))
    assert pyvips.Image.tiffload(str(tmp_path / "a.tif")).width == 50
