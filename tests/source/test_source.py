"""The source picture: every kind of file, against Pillow and tifffile as independent writers; damage; noise."""

from __future__ import annotations

import hashlib
import io
import os
import shutil
import struct
import subprocess
import sys
import tempfile
import time
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageCms, ImageOps

from render.config.schema import SourceConfig
from render.dreaming.resample import resample_array
from render.errors import UserError
from render.geometry.geometry import Interval, Rect, whole
from render.geometry.source_window import SourceWindow
from render.source.photo import PhotoSource, read_photo
from render.source.source import SAMPLES, NoiseSource, open_source, sample_path
from tests.conftest import ROOT

DEFAULT = SourceConfig()
GREENISH = SourceConfig(background=[10, 200, 30])
LOSSLESS: dict[str, dict[str, Any]] = {
    "png": {},
    "webp": {"lossless": True, "exact": True},
    "tiff": {"compression": "tiff_adobe_deflate"},
}


def random_pixels(*shape: int, kind: type = np.uint8, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, np.iinfo(kind).max + 1, shape, dtype=kind)


def photo(height: int = 40, width: int = 30) -> np.ndarray:
    """A smooth uint8 picture without symmetry, kind to lossy formats."""
    rows, columns = np.mgrid[0:1:height * 1j, 0:1:width * 1j]  # fmt: skip
    channels = [rows, columns, 0.5 + 0.5 * np.sin(5 * rows + 3 * columns**2)]
    return np.rint(255 * np.stack(channels, -1)).astype(np.uint8)


def laid_over(pixels: np.ndarray, background: list[int]) -> np.ndarray:
    """RGBA 0..1 over a background, as 0..255, in float64."""
    alpha = pixels[..., 3:]
    return 255 * pixels[..., :3] * alpha + (1 - alpha) * np.array(background, float)


def chunk(name: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))


def encode_png(pixels: np.ndarray, depth: int, colour_type: int, *more: bytes) -> bytes:
    """A PNG written by hand (ISO 15948): no library here writes 16-bit RGB."""
    height, width = pixels.shape[:2]
    header = struct.pack(">IIBBBBB", width, height, depth, colour_type, 0, 0, 0)
    samples = pixels.astype(">u2" if depth == 16 else "u1").reshape(height, -1)
    rows = b"".join(b"\0" + row.tobytes() for row in samples)
    parts = [chunk(b"IHDR", header), *more, chunk(b"IDAT", zlib.compress(rows)), chunk(b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def fixed(*values: float) -> bytes:
    return b"".join(struct.pack(">i", round(value * 65536)) for value in values)


#: Colorants of Display P3 adapted to D50: columns of the matrix from linear RGB to XYZ.
P3 = np.array([[0.51512, 0.29198, 0.15710], [0.24120, 0.69225, 0.06657], [-0.00105, 0.04189, 0.78407]])
SRGB = np.array([[0.43607, 0.38515, 0.14307], [0.22249, 0.71687, 0.06061], [0.01392, 0.09708, 0.71410]])
P3_GAMMA = 563 / 256


def icc_profile(space: bytes, tags: dict[bytes, bytes]) -> bytes:
    """A version 2 display profile (ICC.1:2001-04) with a description, a copyright, D50 white and the given tags."""
    text = b"hand made\0"
    description = b"desc\0\0\0\0" + struct.pack(">I", len(text)) + text + bytes(78)
    tags = {
        b"desc": description,
        b"cprt": b"text\0\0\0\0" + text,
        b"wtpt": b"XYZ \0\0\0\0" + fixed(0.9642, 1, 0.8249),
        **tags,
    }
    at = 128 + 4 + 12 * len(tags)
    table, body = struct.pack(">I", len(tags)), b""
    for name, content in tags.items():
        table += name + struct.pack(">II", at + len(body), len(content))
        body += content + bytes(-len(content) % 4)
    header = struct.pack(">I4sI4s4s4s", at + len(body), b"lcms", 0x02400000, b"mntr", space, b"XYZ ")
    header += struct.pack(">6H", 2020, 1, 1, 0, 0, 0) + b"acsp" + bytes(28) + fixed(0.9642, 1, 0.8249)
    return header.ljust(128, b"\0") + table + body


def gamma_curve(gamma: float) -> bytes:
    return b"curv\0\0\0\0" + struct.pack(">IH", 1, round(gamma * 256))


def p3_profile() -> bytes:
    colorants = {
        name: b"XYZ \0\0\0\0" + fixed(*column) for name, column in zip((b"rXYZ", b"gXYZ", b"bXYZ"), P3.T, strict=True)
    }
    return icc_profile(b"RGB ", {**colorants, **dict.fromkeys((b"rTRC", b"gTRC", b"bTRC"), gamma_curve(P3_GAMMA))})


def srgb_encoded(linear: np.ndarray) -> np.ndarray:
    """IEC 61966-2-1, 0..1."""
    linear = np.clip(linear, 0, 1)
    return np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)


def p3_to_srgb(pixels: np.ndarray) -> np.ndarray:
    """RGB 0..1 of `p3_profile` as sRGB 0..255, by the matrices."""
    linear = pixels**P3_GAMMA @ P3.T @ np.linalg.inv(SRGB).T
    return 255 * srgb_encoded(linear)


# Formats


@pytest.mark.parametrize("form", LOSSLESS)
def test_lossless_formats_keep_every_value(form: str, tmp_path: Path) -> None:
    pixels = random_pixels(40, 30, 3)
    path = tmp_path / f"photo.{form}"
    Image.fromarray(pixels).save(path, **LOSSLESS[form])
    read = read_photo(path, DEFAULT)
    assert read.dtype == np.float32
    np.testing.assert_array_equal(read, pixels)


@pytest.mark.parametrize("form", ["jpeg", "webp"])
def test_lossy_formats_decode_as_pillow_decodes_them(form: str, tmp_path: Path) -> None:
    path = tmp_path / f"photo.{form}"
    Image.fromarray(photo(120, 90)).save(path, quality=90)
    with Image.open(path) as picture:
        expected = np.asarray(picture.convert("RGB"), np.float32)
    # Decoders round colour conversion and chroma upsampling differently.
    difference = np.abs(read_photo(path, DEFAULT) - expected)
    assert difference.max() <= 4
    assert difference.mean() < 0.5


def test_progressive_jpeg_is_read(tmp_path: Path) -> None:
    path = tmp_path / "photo.jpg"
    Image.fromarray(photo()).save(path, quality=95, progressive=True, subsampling="4:4:4")
    assert np.abs(read_photo(path, DEFAULT) - photo()).mean() < 2


def test_a_suffix_that_lies_does_not_matter(tmp_path: Path) -> None:
    path = tmp_path / "really-a-png.jpg"
    Image.fromarray(photo()).save(path, format="PNG")
    np.testing.assert_array_equal(read_photo(path, DEFAULT), photo())


@pytest.mark.parametrize("name", ["a b.png", "cat[1].png", "photo[x]", "a,b=c$d'(é).png", "a:b.png", "-.png", "a\\b.png"])
def test_any_file_name_is_just_a_name(name: str, tmp_path: Path) -> None:
    Image.fromarray(photo()).save(tmp_path / name, format="PNG")
    source = open_source(str(tmp_path / name), 0, DEFAULT)
    np.testing.assert_array_equal(source.at((40, 30), whole(40, 30)), photo())


@pytest.mark.parametrize("shape", [(40, 30), (700, 520)])
@pytest.mark.parametrize("form", ["png", "jpeg", "webp", "tiff"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_undone(orientation: int, form: str, shape: tuple[int, int], tmp_path: Path) -> None:
    """Small, and large enough that a streaming decoder cannot go back."""
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = tmp_path / f"photo.{form}"
    options = LOSSLESS.get(form, {"quality": 95, "subsampling": "4:4:4"})
    Image.fromarray(photo(*shape)).save(path, exif=exif, **options)
    with Image.open(path) as picture:
        assert picture.getexif()[0x0112] == orientation
        expected = np.asarray(ImageOps.exif_transpose(picture).convert("RGB"), np.float32)
    assert expected.shape[:2] == (shape if orientation < 5 else shape[::-1])
    read = read_photo(path, DEFAULT)
    assert read.shape == expected.shape
    assert np.abs(read - expected).max() <= (0 if form in LOSSLESS else 2)


# Transparency


@pytest.mark.parametrize("form", LOSSLESS)
def test_rgba_is_laid_over_the_background(form: str, tmp_path: Path) -> None:
    pixels = random_pixels(20, 10, 4)
    pixels[:5, :, 3], pixels[5:10, :, 3] = 0, 255
    path = tmp_path / f"photo.{form}"
    Image.fromarray(pixels).save(path, **LOSSLESS[form])
    expected = laid_over(pixels / 255, GREENISH.background)
    np.testing.assert_allclose(read_photo(path, GREENISH), expected, atol=1e-3)
    np.testing.assert_allclose(read_photo(path, DEFAULT), laid_over(pixels / 255, [255, 255, 255]), atol=1e-3)


def test_transparent_grey_is_laid_over_the_background(tmp_path: Path) -> None:
    pixels = random_pixels(20, 10, 2)
    (tmp_path / "grey.png").write_bytes(encode_png(pixels, 8, 4))
    expected = laid_over(pixels[..., [0, 0, 0, 1]] / 255, GREENISH.background)
    np.testing.assert_allclose(read_photo(tmp_path / "grey.png", GREENISH), expected, atol=1e-3)


@pytest.mark.parametrize("transparency", [3, bytes(range(0, 256, 16))], ids=["one colour", "any alpha"])
def test_a_palettes_transparency_is_laid_over_the_background(transparency: int | bytes, tmp_path: Path) -> None:
    path = tmp_path / "palette.png"
    Image.fromarray(photo()).quantize(16).save(path, transparency=transparency)
    with Image.open(path) as picture:
        assert picture.mode == "P"
        rgba = np.asarray(picture.convert("RGBA"))
    assert rgba[..., 3].min() < 255
    np.testing.assert_allclose(read_photo(path, GREENISH), laid_over(rgba / 255, GREENISH.background), atol=1e-3)


def test_the_transparent_colour_of_a_png_is_the_background(tmp_path: Path) -> None:
    pixels = photo()
    path = tmp_path / "key.png"
    Image.fromarray(pixels).save(path, transparency=tuple(int(value) for value in pixels[7, 9]))
    read = read_photo(path, GREENISH)
    np.testing.assert_allclose(read[7, 9], GREENISH.background, atol=1e-3)
    np.testing.assert_allclose(read[0, 0], pixels[0, 0], atol=1e-3)


def test_alpha_of_16_bits_is_a_share_of_65535(tmp_path: Path) -> None:
    pixels = random_pixels(20, 10, 4, kind=np.uint16)
    pixels[0, 0], pixels[0, 1] = (65535, 0, 0, 0), (0, 65535, 0, 65535)
    (tmp_path / "deep.png").write_bytes(encode_png(pixels, 16, 6))
    read = read_photo(tmp_path / "deep.png", GREENISH)
    np.testing.assert_allclose(read, laid_over(pixels / 65535, GREENISH.background), atol=1e-3)
    np.testing.assert_allclose(read[0, :2], [GREENISH.background, [0, 255, 0]], atol=1e-3)


def test_transparent_grey_of_16_bits(tmp_path: Path) -> None:
    pixels = random_pixels(20, 10, 2, kind=np.uint16)
    (tmp_path / "deep.png").write_bytes(encode_png(pixels, 16, 4))
    expected = laid_over(pixels[..., [0, 0, 0, 1]] / 65535, GREENISH.background)
    np.testing.assert_allclose(read_photo(tmp_path / "deep.png", GREENISH), expected, atol=1e-3)


# Depth and colour


def write_deep(form: str, path: Path, pixels: np.ndarray) -> None:
    if form == "tiff":
        tifffile.imwrite(path, pixels, photometric="rgb" if pixels.ndim == 3 else "minisblack")
    else:
        path.write_bytes(encode_png(pixels, 16, 2 if pixels.ndim == 3 else 0))


@pytest.mark.parametrize("form", ["png", "tiff"])
@pytest.mark.parametrize("shape", [(20, 10, 3), (20, 10)], ids=["rgb", "grey"])
def test_16_bits_keep_their_precision(shape: tuple[int, ...], form: str, tmp_path: Path) -> None:
    pixels = random_pixels(*shape, kind=np.uint16)
    pixels[0, 0], pixels[0, 1], pixels[0, 2] = 12345, 0, 65535
    write_deep(form, tmp_path / "deep", pixels)
    read = read_photo(tmp_path / "deep", DEFAULT)
    np.testing.assert_allclose(read[0, 0], 12345 / 65535 * 255, atol=1e-4)
    expected = pixels / 65535 * 255 if pixels.ndim == 3 else np.stack([pixels / 65535 * 255] * 3, -1)
    np.testing.assert_allclose(read, expected, atol=1e-3)


@pytest.mark.parametrize("form", ["png", "jpeg", "tiff"])
def test_grey_becomes_three_equal_channels(form: str, tmp_path: Path) -> None:
    pixels = photo()[..., 2]
    path = tmp_path / f"grey.{form}"
    Image.fromarray(pixels).save(path, **LOSSLESS.get(form, {"quality": 100}))
    read = read_photo(path, DEFAULT)
    assert read.shape == (40, 30, 3)
    np.testing.assert_array_equal(read, read[..., :1].repeat(3, -1))
    assert np.abs(read[..., 0] - pixels).max() <= (1 if form == "jpeg" else 0)


@pytest.mark.parametrize(
    ("form", "options"), [("png", {}), ("tiff", {}), ("tiff", {"compression": "group4"})], ids=["png", "tiff", "fax"]
)
def test_one_bit_is_black_and_white(form: str, options: dict[str, Any], tmp_path: Path) -> None:
    bits = photo()[..., 2] > 128
    path = tmp_path / f"bits.{form}"
    Image.fromarray(bits).save(path, **options)
    np.testing.assert_array_equal(read_photo(path, DEFAULT), np.stack([255.0 * bits] * 3, -1))


def test_grey_tiff_where_0_is_white(tmp_path: Path) -> None:
    pixels = photo()[..., 2]
    tifffile.imwrite(tmp_path / "negative.tif", pixels, photometric="miniswhite")
    np.testing.assert_array_equal(read_photo(tmp_path / "negative.tif", DEFAULT)[..., 0], 255.0 - pixels)


@pytest.mark.parametrize("compression", ["raw", "tiff_lzw", "packbits", "tiff_deflate"])
def test_a_tiffs_compression_does_not_matter(compression: str, tmp_path: Path) -> None:
    Image.fromarray(photo()).save(tmp_path / "photo.tif", compression=compression)
    np.testing.assert_array_equal(read_photo(tmp_path / "photo.tif", DEFAULT), photo())


@pytest.mark.parametrize("compression", [None, "zlib"])
@pytest.mark.parametrize("bigtiff", [False, True])
def test_tiffs_of_many_kinds_read_the_same(compression: str | None, bigtiff: bool, tmp_path: Path) -> None:
    """Tiles, separate planes, big-endian bytes, several pages of which the first counts."""
    pixels = random_pixels(70, 50, 3, kind=np.uint16)
    written: dict[str, Any] = {"compression": compression, "bigtiff": bigtiff, "photometric": "rgb"}
    tifffile.imwrite(tmp_path / "a.tif", pixels, tile=(16, 32), **written)
    tifffile.imwrite(tmp_path / "b.tif", pixels.transpose(2, 0, 1), planarconfig="separate", **written)
    tifffile.imwrite(tmp_path / "c.tif", pixels, byteorder=">", **written)
    tifffile.imwrite(tmp_path / "d.tif", np.stack([pixels, 65535 - pixels]), **written)
    for name in "abcd":
        np.testing.assert_allclose(read_photo(tmp_path / f"{name}.tif", DEFAULT), pixels / 257, atol=1e-3)


@pytest.mark.parametrize("form", ["jpeg", "tiff"])
def test_cmyk_becomes_rgb(form: str, tmp_path: Path) -> None:
    """Inks are no exact colours: paper is white, all inks are dark, and hues and the order of lightness stay."""
    read = {}
    for name in ("white", "black", "grey", "red", "lime", "blue"):
        picture = Image.new("RGB", (32, 32), name).convert("CMYK")
        if name == "black":
            picture = Image.new("CMYK", (32, 32), (255, 255, 255, 255))
        path = tmp_path / f"{name}.{form}"
        picture.save(path, **({"quality": 95} if form == "jpeg" else {}))
        with Image.open(path) as written:
            assert written.mode == "CMYK"
        pixels = read_photo(path, DEFAULT)
        assert pixels.shape == (32, 32, 3)
        read[name] = pixels.mean((0, 1))
    assert read["white"].min() > 250
    assert read["black"].max() < 50
    assert read["black"].mean() + 50 < read["grey"].mean() < read["white"].mean() - 50
    for channel, name in enumerate(("red", "lime", "blue")):
        assert read[name].argmax() == channel
        assert read[name].max() - read[name].min() > 60


@pytest.mark.parametrize("form", ["png", "jpeg", "webp", "tiff"])
def test_an_embedded_profile_is_converted_to_srgb(form: str, tmp_path: Path) -> None:
    """Against the matrices, and against Pillow's own colour management, on a picture with wide colours."""
    pixels = photo(60, 50)
    path = tmp_path / f"wide.{form}"
    options = LOSSLESS.get(form, {"quality": 100, "subsampling": "4:4:4"})
    Image.fromarray(pixels).save(path, icc_profile=p3_profile(), **options)
    with Image.open(path) as picture:
        stored = picture.convert("RGB")
        profile = ImageCms.ImageCmsProfile(io.BytesIO(picture.info["icc_profile"]))
    managed = ImageCms.profileToProfile(stored, profile, ImageCms.createProfile("sRGB"), renderingIntent=1)
    assert managed is not None
    read = read_photo(path, DEFAULT)
    assert np.abs(np.asarray(stored, float) - read).max() > 20, "the profile must matter"
    assert np.abs(np.asarray(managed, float) - read).max() <= 2
    assert np.abs(p3_to_srgb(np.asarray(stored) / 255) - read).max() <= 2


def test_a_profile_on_16_bits_keeps_them_and_the_alpha(tmp_path: Path) -> None:
    deep = np.rint(photo(60, 50).astype(float) * 257).astype(np.uint16)
    alpha = random_pixels(60, 50, 1, kind=np.uint16)
    iccp = chunk(b"iCCP", b"p3\0\0" + zlib.compress(p3_profile()))
    (tmp_path / "wide.png").write_bytes(encode_png(np.concatenate([deep, alpha], -1), 16, 6, iccp))
    opaque = p3_to_srgb(deep / 65535)
    expected = laid_over(np.concatenate([opaque / 255, alpha / 65535], -1), GREENISH.background)
    read = read_photo(tmp_path / "wide.png", GREENISH)
    assert np.abs(read - expected).max() < 2
    assert np.abs(read - expected).mean() < 0.1
    assert np.mean(np.abs(read - np.rint(read)) > 0.05) > 0.5, "not rounded to 8 bits"


def test_a_grey_profile_is_converted(tmp_path: Path) -> None:
    """Linear light: half of it is 188 in sRGB."""
    pixels = np.arange(256, dtype=np.uint8).reshape(16, 16)
    profile = icc_profile(b"GRAY", {b"kTRC": gamma_curve(1.0)})
    Image.fromarray(pixels).save(tmp_path / "grey.png", icc_profile=profile)
    read = read_photo(tmp_path / "grey.png", DEFAULT)
    assert read.shape == (16, 16, 3)
    assert abs(float(read[8, 0, 0]) - 188) <= 1
    np.testing.assert_allclose(read[2:], np.stack([255 * srgb_encoded(pixels[2:] / 255)] * 3, -1), atol=2)


def test_srgb_with_its_profile_is_left_alone(tmp_path: Path) -> None:
    pixels = random_pixels(40, 30, 3)
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    Image.fromarray(pixels).save(tmp_path / "srgb.png", icc_profile=profile)
    np.testing.assert_allclose(read_photo(tmp_path / "srgb.png", DEFAULT), pixels, atol=1)


@pytest.mark.parametrize("profile", [b"no profile" * 50, p3_profile()[:200]], ids=["nonsense", "cut"])
def test_a_broken_profile_does_not_spoil_the_picture(profile: bytes, tmp_path: Path) -> None:
    Image.fromarray(photo()).save(tmp_path / "photo.png", icc_profile=profile)
    np.testing.assert_array_equal(read_photo(tmp_path / "photo.png", DEFAULT), photo())


# What is refused


def refusal(path: Path | str, source_config: SourceConfig = DEFAULT) -> str:
    """The one line with which opening a picture is refused."""
    with pytest.raises(UserError) as caught:
        open_source(str(path), 0, source_config)
    message = str(caught.value)
    assert len(message.splitlines()) == 1, message
    assert not message.endswith(": ")
    return message


@pytest.mark.parametrize("kind", ["f4", "f8", "i1", "i2", "i4", "u4"])
def test_samples_of_unknown_white_are_refused(kind: str, tmp_path: Path) -> None:
    """A float TIFF may hold 0..1, 0..255 or linear light, and nothing in it says which."""
    path = tmp_path / "odd.tif"
    tifffile.imwrite(path, photo().astype(kind), photometric="rgb")
    assert "odd.tif" in refusal(path)


def test_float_samples_are_named_with_the_way_out(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "float.tif", photo()[..., 0].astype(np.float32))
    message = refusal(tmp_path / "float.tif")
    assert "float" in message.replace("float.tif", "")
    assert "8 or 16 bits" in message


def test_channels_that_are_no_colours_are_refused(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "five.tif", random_pixels(20, 10, 5), photometric="rgb", extrasamples=(0, 0))
    assert "5 channels" in refusal(tmp_path / "five.tif")


def test_a_missing_file_is_named_with_what_may_be_given(tmp_path: Path) -> None:
    message = refusal(tmp_path / "nowhere.jpg")
    for word in ("nowhere.jpg", "does not exist", "sample:", "noise", "hubble"):
        assert word in message


def test_a_directory_is_refused(tmp_path: Path) -> None:
    assert "is a directory" in refusal(tmp_path)
    assert "is a directory" in refusal("")


def test_a_device_is_refused_and_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.png")
    assert "pipe" in refusal(tmp_path / "pipe.png")
    assert "device" in refusal("/dev/zero")


@pytest.mark.parametrize("name", ["x" * 300 + ".png", "~nobody-of-this-name/me.jpg"], ids=["too long", "home"])
def test_a_name_that_no_file_can_have_is_refused(name: str) -> None:
    assert name in refusal(name)


@pytest.mark.parametrize("content", [b"", b"hello\n", b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"II*\0", b"RIFF....WEBP"])
@pytest.mark.parametrize("suffix", ["png", "jpg", "tiff"])
def test_what_is_no_picture_is_refused(content: bytes, suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"not.{suffix}"
    path.write_bytes(content)
    message = refusal(path)
    assert path.name in message
    assert "PNG, JPEG, WebP or TIFF" in message


@pytest.mark.parametrize("share", [0.02, 0.3, 0.7, 0.99])
@pytest.mark.parametrize("form", ["png", "jpeg", "webp", "tiff"])
def test_a_truncated_picture_is_refused(form: str, share: float, tmp_path: Path) -> None:
    whole_file, path = tmp_path / "whole", tmp_path / f"cut.{form}"
    Image.fromarray(random_pixels(90, 80, 3)).save(whole_file, format=form, **LOSSLESS.get(form, {}))
    content = whole_file.read_bytes()
    read_photo(whole_file, DEFAULT)
    path.write_bytes(content[: int(share * len(content))])
    assert path.name in refusal(path)


def test_a_flipped_bit_in_a_png_is_noticed(tmp_path: Path) -> None:
    """Its checksums are there to be looked at."""
    content = bytearray(encode_png(random_pixels(40, 30, 3), 8, 2))
    content[len(content) // 2] ^= 1
    (tmp_path / "damaged.png").write_bytes(content)
    assert "damaged.png" in refusal(tmp_path / "damaged.png")


def test_a_decompression_bomb_is_refused_before_it_is_decoded(tmp_path: Path) -> None:
    header = struct.pack(">IIBBBBB", 70000, 70000, 8, 2, 0, 0, 0)
    data = zlib.compress(bytes(10_000_000))
    content = [chunk(b"IHDR", header), chunk(b"IDAT", data), chunk(b"IEND", b"")]
    path = tmp_path / "bomb.png"
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(content))
    with pytest.raises(Image.DecompressionBombError):
        Image.open(path)
    begun = time.perf_counter()
    message = refusal(path)
    assert time.perf_counter() - begun < 1
    for word in ("70000 x 70000", "source.max_megapixels=4000", "4,900 megapixels"):
        assert word in message


def test_the_limit_of_megapixels_can_be_set(tmp_path: Path) -> None:
    path = tmp_path / "photo.png"
    Image.fromarray(photo(100, 100)).save(path)
    assert "source.max_megapixels=0.0099" in refusal(path, SourceConfig(max_megapixels=0.0099))
    np.testing.assert_array_equal(read_photo(path, SourceConfig(max_megapixels=0.01)), photo(100, 100))


@contextmanager
def as_somebody_else() -> Iterator[None]:
    """Without root's right to read everything."""
    if os.geteuid() != 0:
        yield
        return
    try:
        os.seteuid(65534)
    except OSError:
        pytest.skip("needs a user whom file permissions stop")
    try:
        yield
    finally:
        os.seteuid(0)


def test_what_may_not_be_read_is_refused() -> None:
    """A file without permission, and a file in a directory without."""
    # Not tmp_path: another user cannot enter it.
    directory = Path(tempfile.mkdtemp())
    try:
        closed = directory / "closed"
        closed.mkdir()
        for path in (directory / "mine.png", closed / "mine.png"):
            Image.fromarray(photo()).save(path)
        directory.chmod(0o755)
        (directory / "mine.png").chmod(0)
        closed.chmod(0)
        with as_somebody_else():
            for path in (directory / "mine.png", closed / "mine.png"):
                message = refusal(path)
                assert "mine.png" in message
                assert "Permission denied" in message
        closed.chmod(0o700)
    finally:
        shutil.rmtree(directory)


@pytest.mark.parametrize("damage", ["cut", "profile"])
def test_decoders_do_not_talk_on_standard_error(damage: str, command, tmp_path: Path) -> None:
    """A cut JPEG is refused in one line; a broken profile is passed over without a word."""
    path = tmp_path / "photo.jpg"
    Image.fromarray(photo(200, 200)).save(path, icc_profile=b"no profile" * 50)
    if damage == "cut":
        path.write_bytes(path.read_bytes()[:-900])
        command("image=photo.jpg").refused("photo.jpg", "premature end")
        return
    script = (
        "from render.source.source import open_source; from render.config.schema import SourceConfig;"
        "print(open_source('photo.jpg', 0, SourceConfig()).size)"
    )
    words = [sys.executable, "-c", script]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    result = subprocess.run(words, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert (result.stdout, result.stderr) == ("(200, 200)\n", "")


# Samples and the source's own promises


@pytest.mark.parametrize("name", SAMPLES)
def test_every_sample_opens(name: str) -> None:
    source = open_source(f"sample:{name}", 0, DEFAULT)
    assert source.size is not None
    assert min(source.size) >= 300
    pixels = source.at((60, 80), whole(60, 80))
    assert pixels.shape == (60, 80, 3)
    assert 0 <= pixels.min() < pixels.max() <= 255
    assert pixels.std() > 10


def test_an_unknown_sample_suggests_the_nearest() -> None:
    assert "sample:chelsea" in refusal("sample:chelsey")
    message = refusal("sample:zzz")
    assert all(name in message for name in SAMPLES)


def test_a_source_knows_its_content_and_size(tmp_path: Path) -> None:
    path = tmp_path / "photo.png"
    Image.fromarray(photo()).save(path)
    source = open_source(str(path), 0, DEFAULT)
    assert isinstance(source, PhotoSource)
    assert source.size == (40, 30)
    assert source.nbytes == 40 * 30 * 3 * 4
    assert source.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()


def test_a_home_directory_is_expanded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Image.fromarray(photo()).save(tmp_path / "photo.png")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert open_source("~/photo.png", 0, DEFAULT).size == (40, 30)


def test_a_photo_at_another_size_is_clipped_lanczos() -> None:
    """Lanczos overshoots at edges; the source must not leave 0..255."""
    pixels = np.zeros((20, 20, 3), np.float32)
    pixels[5:15, 5:15] = 255
    source = PhotoSource(pixels, "x")
    enlarged = resample_array(pixels, (64, 64))
    assert enlarged.max() > 260
    assert enlarged.min() < -5
    np.testing.assert_array_equal(source.at((64, 64), whole(64, 64)), np.clip(enlarged, 0, 255))


def test_reading_a_source_leaves_it_as_it_was() -> None:
    """At its own size, too, where nothing needs computing."""
    pixels = photo().astype(np.float32)
    source = PhotoSource(pixels, "x")
    source.at((40, 30), whole(40, 30))[:] = -1
    np.testing.assert_array_equal(source.at((40, 30), whole(40, 30)), photo())


def test_a_photo_on_a_torus_has_no_edge() -> None:
    """Rolling it before or after resampling is the same, on the axes that wrap and on them alone."""
    pixels = random_pixels(24, 36, 3).astype(np.float32)
    canvas = whole(16, 24)
    for modes, shift in (
        (("wrap", "wrap"), (12, 18)),
        (("reflect", "wrap"), (0, 18)),
        (("reflect", "reflect"), (12, 18)),
    ):
        window = SourceWindow.whole((24, 36), modes)
        plain = PhotoSource(pixels, "x", window=window).at((16, 24), canvas)
        rolled = PhotoSource(np.roll(pixels, shift, (0, 1)), "x", window=window).at((16, 24), canvas)
        back = np.roll(rolled, (-shift[0] * 16 // 24, -shift[1] * 24 // 36), (0, 1))
        assert (np.abs(back - plain).max() < 1e-2) == ("wrap" in modes)


# Noise

sizes = st.integers(1, 90)


@st.composite
def parts(draw: st.DrawFn) -> tuple[tuple[int, int], Rect]:
    """A picture's shape and a rectangle of it."""
    shape = draw(sizes), draw(sizes)
    cuts = [sorted(draw(st.lists(st.integers(0, side), min_size=2, max_size=2, unique=True))) for side in shape]
    return shape, Rect(*(Interval(*cut) for cut in cuts))


@given(parts(), st.integers(0, 2**63 - 1))
def test_any_rectangle_of_noise_is_that_part_of_the_whole(part: tuple[tuple[int, int], Rect], seed: int) -> None:
    shape, rect = part
    source = NoiseSource(seed)
    actual = source.at(shape, rect)
    assert actual.dtype == np.float32
    np.testing.assert_array_equal(actual, source.at(shape, whole(*shape))[slice(*rect.rows), slice(*rect.columns)])


def test_noise_is_its_seeds() -> None:
    canvas = whole(60, 80)
    first = NoiseSource(1).at((60, 80), canvas)
    np.testing.assert_array_equal(NoiseSource(1).at((60, 80), canvas), first)
    for seed in (0, 2, 2**32 + 1, 2**63 - 1):
        other = NoiseSource(seed).at((60, 80), canvas)
        assert np.abs(other - first).mean() > 5
        assert abs(np.corrcoef(other.ravel(), first.ravel())[0, 1]) < 0.5
        assert NoiseSource(seed).sha256 != NoiseSource(1).sha256
    assert NoiseSource(1).sha256 == NoiseSource(1).sha256


def test_image_noise_opens_noise() -> None:
    source = open_source("noise", 7, DEFAULT)
    assert source == NoiseSource(7)
    assert source.size is None
    assert source.nbytes == 0


shapes = pytest.mark.parametrize("shape", [(200, 300), (300, 200), (128, 128), (90, 400), (150, 200)])


@shapes
def test_noise_tiles_the_plane(shape: tuple[int, int]) -> None:
    """The step over the wrap is like any step between neighbours, on both axes and every seed."""
    for seed in range(4):
        pixels = NoiseSource(seed).at(shape, whole(*shape)).astype(np.float64)
        for axis in (0, 1):
            inside = np.abs(np.diff(pixels, axis=axis))
            across = np.abs(pixels.take(0, axis) - pixels.take(-1, axis))
            assert across.mean() < 1.5 * inside.mean()
            assert across.max() <= 1.25 * inside.max()
            # A picture that does not tile would fail: compare rows half a picture apart.
            apart = np.abs(pixels.take(0, axis) - pixels.take(shape[axis] // 2, axis))
            assert apart.mean() > 3 * inside.mean()


@shapes
def test_noise_is_in_range_and_not_flat(shape: tuple[int, int]) -> None:
    for seed in range(4):
        pixels = NoiseSource(seed).at(shape, whole(*shape))
        assert pixels.min() >= 0
        assert pixels.max() <= 255
        assert pixels.std() > 15
        assert abs(pixels.mean() - 127.5) < 20
        assert np.mean((pixels == 0) | (pixels == 255)) < 0.01
        channels = pixels.reshape(-1, 3)
        assert all(np.abs(channels[:, i] - channels[:, j]).mean() > 5 for i, j in ((0, 1), (1, 2), (0, 2)))


@pytest.mark.parametrize("final", [(600, 800), (533, 800), (400, 800), (800, 533), (500, 500), (640, 800), (700, 400)])
def test_noise_is_the_same_picture_at_every_octave(final: tuple[int, int]) -> None:
    """Octaves are the same noise but for the finest detail, whatever their rounded sizes do to the aspect."""
    finest = NoiseSource(3).at(final, whole(*final))
    for octave in range(1, 6):
        shape = round(final[0] / 1.4**octave), round(final[1] / 1.4**octave)
        coarse = NoiseSource(3).at(shape, whole(*shape))
        shrunk = resample_array(finest, shape)
        assert np.corrcoef(coarse.ravel(), shrunk.ravel())[0, 1] > 0.99
        assert np.abs(coarse - shrunk).mean() < 4


def test_sample_paths_are_inside_the_package() -> None:
    assert {sample_path(name).name for name in SAMPLES} == set(SAMPLES.values())
    assert all(sample_path(name).is_file() for name in SAMPLES)
