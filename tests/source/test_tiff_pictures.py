"""TIFF as a source, mask and guide: what is cut off, pages, extra channels, profiles of pyramids, kinds that are not read.

tifffile and Pillow are the independent readers; the files are made by tifffile, Pillow, libvips, and by hand.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import pyvips
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageCms

from render.config.schema import SourceConfig
from render.errors import UserError
from render.preflight.preflight import Request, inspect
from render.preflight.print_report import warnings
from render.source import source as source_module
from render.source.mask import open_mask
from render.source.photo import read_photo, read_small
from render.source.source import open_source
from tests.source.test_pyramid import at, both
from tests.source.test_source import icc_profile, p3_profile, p3_to_srgb, random_pixels
from tests.support.tiff_files import Page, directory_first, tags, write

HOW = SourceConfig()
GREENISH = SourceConfig(background=[10, 200, 30])
SIDE = 128


def picture() -> np.ndarray:
    """Noise that no compression makes small."""
    return random_pixels(3 * SIDE, 2 * SIDE, 3)


def refusals(path: Path) -> set[str]:
    """Return the line with which every reader of pictures refuses a file, without the reader's own words."""
    said = set()
    readers: dict[str, Callable[[], Any]] = {
        "source": lambda: open_source(str(path), 0, HOW),
        "large source": lambda: large(path),
        "mask": lambda: open_mask(str(path), HOW, "mask"),
        "guide": lambda: read_small(path, HOW, 1000),
        "preflight": lambda: inspect(Request(path)),
    }
    for name, read in readers.items():
        with pytest.raises(UserError) as caught:
            read()
        message = str(caught.value)
        assert len(message.splitlines()) == 1, (name, message)
        said.add(message.removeprefix("mask: ").removeprefix("image ").removeprefix("file "))
    return said


def large(path: Path) -> Any:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(source_module, "MAX_IN_MEMORY_PX", 0)
        return open_source(str(path), 0, HOW)


# Cut off


#: How libvips writes each compression.
COMPRESSIONS: dict[str, dict[str, Any]] = {
    **{"none": {}, "lzw": {}, "deflate": {}, "packbits": {}, "jpeg": {"Q": 95}, "webp": {"lossless": True}}
}


@pytest.mark.parametrize("big", [False, True], ids=["classic", "big"])
@pytest.mark.parametrize("tiled", [False, True], ids=["strips", "tiles"])
@pytest.mark.parametrize("compression", COMPRESSIONS)
def test_a_cut_tiff_is_refused_and_a_whole_one_is_read(compression: str, tiled: bool, big: bool, tmp_path: Path) -> None:
    """Directories first, as downloads that broke off have them."""
    image = pyvips.Image.new_from_array(picture()).copy(interpretation="srgb")
    options = COMPRESSIONS[compression]
    image.tiffsave(
        str(tmp_path / "last.tif"), compression=compression, tile=tiled, tile_width=SIDE, tile_height=SIDE, **options
    )
    directory_first(tmp_path / "last.tif", tmp_path / "whole.tif", big=big)
    content = (tmp_path / "whole.tif").read_bytes()
    expected = picture()
    if compression == "jpeg":
        with Image.open(tmp_path / "last.tif") as independent:
            expected = np.asarray(independent)
    np.testing.assert_allclose(read_photo(tmp_path / "whole.tif", HOW), expected, atol=2 if compression == "jpeg" else 0)
    for share in (0.3, 0.6, 0.95):
        (tmp_path / "cut.tif").write_bytes(content[: int(share * len(content))])
        (said,) = refusals(tmp_path / "cut.tif")
        assert "is no whole" in said
        assert "cut off" in said
        assert "lie beyond its end" in said


@pytest.mark.parametrize("way", ["chain", "subifds"])
def test_a_pyramid_whose_smaller_copies_are_cut_off_is_refused(way: str, tmp_path: Path) -> None:
    pixels = picture()
    copy = Page({**tags(SIDE, 3 * SIDE // 2, 8, 3, 2), 254: (4, [1])}, [pixels[::2, ::2].tobytes()])
    base = Page(tags(2 * SIDE, 3 * SIDE, 8, 3, 2), [pixels.tobytes()], [copy] if way == "subifds" else [])
    write(tmp_path / "whole.tif", base, *([copy] if way == "chain" else []))
    np.testing.assert_array_equal(read_photo(tmp_path / "whole.tif", HOW), pixels)
    content = (tmp_path / "whole.tif").read_bytes()
    (tmp_path / "cut.tif").write_bytes(content[:-100])
    (said,) = refusals(tmp_path / "cut.tif")
    assert "of a smaller copy" in said or "cut off" in said


def test_a_list_of_tiles_that_is_too_short_is_refused(tmp_path: Path) -> None:
    tiles = [bytes(SIDE * SIDE)] * 5
    write(tmp_path / "short.tif", Page(tags(2 * SIDE, 3 * SIDE, 8, 1, 1, tile=SIDE), tiles))
    (said,) = refusals(tmp_path / "short.tif")
    assert "5 of its 6 tiles" in said
    write(tmp_path / "huge.tif", Page({**tags(2**30, 2**30, 8, 1, 1, tile=1)}, tiles))
    with pytest.raises(UserError):
        open_source(str(tmp_path / "huge.tif"), 0, SourceConfig(max_megapixels=1e12))


@pytest.mark.parametrize("compression", ["lzw", "deflate", "jpeg", "packbits", "webp"])
@pytest.mark.parametrize("large_one", [False, True], ids=["in memory", "streamed"])
def test_a_tile_that_cannot_be_decoded_is_not_black(compression: str, large_one: bool, tmp_path: Path) -> None:
    """All of the file is there, but in the middle are zeros, as in a download into a file of the final size."""
    image = pyvips.Image.new_from_array(picture()).copy(interpretation="srgb")
    path = tmp_path / "damaged.tif"
    image.tiffsave(
        str(path), compression=compression, tile=True, tile_width=SIDE, tile_height=SIDE, **COMPRESSIONS[compression]
    )
    with tifffile.TiffFile(path) as file:
        offset, count = file.pages[0].dataoffsets[3], file.pages[0].databytecounts[3]
    content = bytearray(path.read_bytes())
    content[offset : offset + count] = bytes(count)
    path.write_bytes(content)
    if large_one:
        source = large(path).laid_out(None, tmp_path / "levels")
        with pytest.raises(UserError, match=r"damaged.tif.* is no whole"):
            source.prepare((3 * SIDE, 2 * SIDE))
        assert not list((tmp_path / "levels").glob("level-*"))
    else:
        assert all("is no whole" in said for said in refusals_when_read(path))


def refusals_when_read(path: Path) -> list[str]:
    said = []
    for read in (
        lambda: read_photo(path, HOW),
        lambda: read_small(path, HOW, 1000),
        lambda: open_mask(str(path), HOW, "mask"),
        lambda: inspect(Request(path)),
    ):
        with pytest.raises(UserError) as caught:
            read()
        said.append(str(caught.value))
    return said


@pytest.mark.parametrize("samples", [1, 3])
@pytest.mark.parametrize("compressed", [False, True])
def test_tiles_that_are_left_out_on_purpose_are_black(samples: int, compressed: bool, tmp_path: Path) -> None:
    """As GDAL writes them with SPARSE_OK: offset and count are 0."""
    pixels = random_pixels(2 * SIDE, 3 * SIDE, samples)
    pixels[:SIDE, SIDE : 2 * SIDE] = 0
    pixels[SIDE:, 2 * SIDE :] = 0
    tiles: list[bytes | None] = []
    for top in (0, SIDE):
        for left in (0, SIDE, 2 * SIDE):
            tile = pixels[top : top + SIDE, left : left + SIDE].tobytes()
            tiles.append((zlib.compress(tile) if compressed else tile) if any(tile) else None)
    assert tiles.count(None) == 2
    shape = tags(3 * SIDE, 2 * SIDE, 8, samples, 1 if samples == 1 else 2, compression=8 if compressed else 1, tile=SIDE)
    write(tmp_path / "sparse.tif", Page(shape, tiles))
    np.testing.assert_array_equal(tifffile.imread(tmp_path / "sparse.tif").reshape(pixels.shape), pixels)
    np.testing.assert_array_equal(read_photo(tmp_path / "sparse.tif", HOW), np.broadcast_to(pixels, (*pixels.shape[:2], 3)))
    source = large(tmp_path / "sparse.tif").laid_out(None, tmp_path / "levels")
    np.testing.assert_allclose(at(source, pixels.shape[:2]), np.broadcast_to(pixels, (*pixels.shape[:2], 3)), atol=0.01)
    assert inspect(Request(tmp_path / "sparse.tif")).shape == pixels.shape[:2]


def test_empty_tiles_whose_zeros_are_a_colour_are_refused(tmp_path: Path) -> None:
    write(tmp_path / "white.tif", Page(tags(2 * SIDE, SIDE, 8, 1, 0, tile=SIDE), [bytes(SIDE * SIDE), None]))
    (said,) = refusals(tmp_path / "white.tif")
    assert "empty tiles" in said


def test_a_strip_stated_longer_than_it_is_does_not_matter(tmp_path: Path) -> None:
    pixels = picture()
    write(tmp_path / "long.tif", Page(tags(2 * SIDE, 3 * SIDE, 8, 3, 2), [pixels.tobytes()]))
    content = bytearray((tmp_path / "long.tif").read_bytes())
    with tifffile.TiffFile(tmp_path / "long.tif") as file:
        place = file.pages[0].tags[279].valueoffset
    content[place : place + 4] = struct.pack("<I", pixels.nbytes + 999)
    (tmp_path / "long.tif").write_bytes(content)
    np.testing.assert_array_equal(read_photo(tmp_path / "long.tif", HOW), pixels)


# Pages and levels


@pytest.mark.parametrize("mark", [0, 2, 4], ids=["nothing", "page", "mask"])
def test_a_second_page_of_half_the_size_is_another_picture(mark: int, tmp_path: Path) -> None:
    """A4 scanned at two resolutions: white, then black."""
    white = Page(tags(280, 400, 8, 1, 1), [b"\xff" * 280 * 400])
    write(tmp_path / "scans.tif", white, Page({**tags(140, 200, 8, 1, 1), 254: (4, [mark])}, [bytes(140 * 200)]))
    _, source = both(tmp_path / "scans.tif")
    for shape in ((400, 280), (200, 140), (100, 70), (50, 35)):
        np.testing.assert_allclose(at(source, shape), 255, atol=0.01)
    assert any("pages" in warning for warning in warnings(inspect(Request(tmp_path / "scans.tif"))))


def test_a_level_that_is_left_out_is_made_from_the_next_larger(tmp_path: Path) -> None:
    """A pyramid of quarters, as slide scanners write them."""
    with tifffile.TiffWriter(tmp_path / "quarters.tif") as file:
        file.write(np.full((256, 384, 3), 40, np.uint8), photometric="rgb", tile=(64, 64))
        file.write(np.full((64, 96, 3), 160, np.uint8), photometric="rgb", tile=(64, 64), subfiletype=1)
    _, source = both(tmp_path / "quarters.tif")
    for shrink, value in ((1, 40), (2, 40), (4, 160), (8, 160)):
        np.testing.assert_allclose(at(source, (256 // shrink, 384 // shrink)), value, atol=0.01)


def test_a_page_of_other_samples_is_no_level(tmp_path: Path) -> None:
    with tifffile.TiffWriter(tmp_path / "mixed.tif") as file:
        file.write(np.full((256, 384, 3), 40, np.uint8), photometric="rgb")
        file.write(np.full((128, 192), 60000, np.uint16), photometric="minisblack", subfiletype=1)
    _, source = both(tmp_path / "mixed.tif")
    np.testing.assert_allclose(at(source, (128, 192)), 40, atol=0.01)


@pytest.mark.parametrize("kind", [np.uint8, np.uint16])
@pytest.mark.parametrize("way", ["chain", "subifds"])
def test_every_level_has_the_colours_of_the_profile_in_the_first_directory(way: str, kind: type, tmp_path: Path) -> None:
    pixels = np.full((256, 384, 3), np.array([160, 200, 60]) * (257 if kind is np.uint16 else 1), kind)
    with tifffile.TiffWriter(tmp_path / "photo.tif") as file:
        options: dict[str, Any] = {"photometric": "rgb", "tile": (64, 64)}
        file.write(pixels, iccprofile=p3_profile(), subifds=2 if way == "subifds" else 0, **options)
        for step in (2, 4):
            file.write(pixels[::step, ::step], subfiletype=1, **options)
    expected = p3_to_srgb(np.array([160, 200, 60]) / 255)
    memory, source = both(tmp_path / "photo.tif")
    for shrink in (1, 2, 4, 8):
        read = at(source, (256 // shrink, 384 // shrink))
        np.testing.assert_allclose(read, np.broadcast_to(expected, read.shape), atol=1.5)
        np.testing.assert_allclose(read, np.broadcast_to(memory.pixels[0, 0], read.shape), atol=0.01)


# Channels


def multiplied(values: list[int], alpha: int, scale: int) -> list[int]:
    return [round(value * scale * alpha / 255) for value in values]


@pytest.mark.parametrize("layout", ["strips", "tiles", "planes"])
@pytest.mark.parametrize("kind", [np.uint8, np.uint16])
@pytest.mark.parametrize("colours", [[160, 80, 109], [160]], ids=["rgb", "grey"])
@pytest.mark.parametrize("meaning", ["unspecified", "assocalpha", "unassalpha"])
def test_a_fourth_channel_is_what_the_file_says(
    meaning: str, colours: list[int], kind: type, layout: str, tmp_path: Path
) -> None:
    """ExtraSamples 0 is anything, infrared say; 1 was multiplied into the colours; 2 was not (TIFF 6.0, section 18)."""
    alpha, scale = 128, 257 if kind is np.uint16 else 1
    stored = multiplied(colours, alpha, scale) if meaning == "assocalpha" else [value * scale for value in colours]
    pixels = np.zeros((SIDE, SIDE, len(colours) + 1), kind)
    pixels[:] = [*stored, alpha * scale]
    options: dict[str, Any] = {"photometric": "rgb" if len(colours) == 3 else "minisblack", "extrasamples": [meaning]}
    options |= {"tiles": {"tile": (64, 64)}, "planes": {"planarconfig": "separate"}}.get(layout, {})
    options.setdefault("planarconfig", "contig")
    planes_first = pixels.transpose(2, 0, 1) if layout == "planes" else pixels
    tifffile.imwrite(tmp_path / "four.tif", planes_first, **options)
    share = alpha / 255
    expected = (
        np.array(colours) if meaning == "unspecified" else share * np.array(colours) + (1 - share) * np.array([10, 200, 30])
    )
    read = read_photo(tmp_path / "four.tif", GREENISH)
    np.testing.assert_allclose(read, np.broadcast_to(expected, read.shape), atol=1.01)
    report = inspect(Request(tmp_path / "four.tif"))
    assert (report.transparent, report.extra_channels) == ((False, 1) if meaning == "unspecified" else (True, 0))
    # White where it shows, black where it is transparent.
    luma = np.dot([0.2126, 0.7152, 0.0722], colours) if len(colours) == 3 else colours[0]
    mask = open_mask(str(tmp_path / "four.tif"), HOW, "mask")
    np.testing.assert_allclose(mask.pixels, luma / 255 * (1 if meaning == "unspecified" else share), atol=1.5 / 255)


@pytest.mark.parametrize("meanings", [["unspecified", "unassalpha"], ["unassalpha", "unspecified"]])
def test_transparency_is_found_behind_other_channels(meanings: list[str], tmp_path: Path) -> None:
    values = [160, 80, 109, *(128 if meaning == "unassalpha" else 7 for meaning in meanings)]
    pixels = np.full((40, 30, 5), values, np.uint8)
    tifffile.imwrite(tmp_path / "five.tif", pixels, photometric="rgb", extrasamples=meanings)
    share = 128 / 255
    expected = share * np.array([160, 80, 109]) + (1 - share) * np.array([10, 200, 30])
    np.testing.assert_allclose(read_photo(tmp_path / "five.tif", GREENISH)[0, 0], expected, atol=0.01)


def test_a_fourth_channel_without_a_word_is_transparency(tmp_path: Path) -> None:
    """As Pillow reads it: older writers left the tag out."""
    write(tmp_path / "old.tif", Page(tags(64, 64, 8, 4, 2), [bytes([160, 80, 109, 128]) * 4096]))
    with Image.open(tmp_path / "old.tif") as independent:
        assert independent.mode == "RGBA"
    share = 128 / 255
    expected = share * np.array([160, 80, 109]) + (1 - share) * np.array([10, 200, 30])
    np.testing.assert_allclose(read_photo(tmp_path / "old.tif", GREENISH)[0, 0], expected, atol=0.01)


def test_inks_with_a_spot_colour_are_inks(tmp_path: Path) -> None:
    inks = np.full((64, 64, 5), (10, 120, 200, 40, 99), np.uint8)
    tifffile.imwrite(tmp_path / "four.tif", inks[..., :4], photometric="separated")
    tifffile.imwrite(tmp_path / "five.tif", inks, photometric="separated", extrasamples=["unspecified"])
    np.testing.assert_array_equal(read_photo(tmp_path / "five.tif", GREENISH), read_photo(tmp_path / "four.tif", GREENISH))


# Raw files, and kinds that are not read


def raw_file(path: Path, **changes: Any) -> None:
    """A thumbnail with a sensor's data as SubIFD, as NEF, ARW and DNG have it."""
    sensor = random_pixels(200, 300, *([3] if changes.get("photometric") == 34892 else []), kind=np.uint16)
    thumbnail = np.full((120, 160, 3), 90, np.uint8)
    extra = [(271, "s", 0, "MAKER", False), *changes.get("tags", [])]
    with tifffile.TiffWriter(path) as file:
        file.write(
            thumbnail, photometric="rgb", subifds=1, subfiletype=changes.get("mark", 1), metadata=None, extratags=extra
        )
        file.write(sensor, photometric=changes.get("photometric", 32803), subfiletype=0, metadata=None)


@pytest.mark.parametrize(
    "changes",
    [{}, {"mark": 0}, {"photometric": 34892}, {"photometric": 1, "tags": [(50706, "B", 4, (1, 4, 0, 0), False)]}],
    ids=["NEF", "unmarked", "linear", "DNG"],
)
def test_a_cameras_raw_file_is_not_its_thumbnail(changes: dict[str, Any], tmp_path: Path) -> None:
    raw_file(tmp_path / "photo.tif", **changes)
    (said,) = refusals(tmp_path / "photo.tif")
    assert "raw file" in said
    assert "develop it first" in said


@pytest.mark.parametrize(
    "start",
    [
        b"II*\0\x10\0\0\0CR\x02\0", b"FUJIFILMCCD-RAW 0201", b"IIRO\x08\0\0\0", b"IIU\0\x18\0\0\0",
        b"\0\0\0\x18ftypcrx \0\0\0\1", b"\0MRM\0\0", b"FOVb\0\0", b"II\x1a\0\0\0HEAPCCDR", b"MM\0*\0\0\0\x08MMMM",
    ],
    ids=["CR2", "RAF", "ORF", "RW2", "CR3", "MRW", "X3F", "CRW", "IIQ"],
)  # fmt: skip
def test_raw_files_of_other_makers_are_known_by_their_first_bytes(start: bytes, tmp_path: Path) -> None:
    (tmp_path / "photo.tif").write_bytes(start + bytes(4000))
    (said,) = refusals(tmp_path / "photo.tif")
    assert "develop it first" in said


def test_a_thumbnail_before_the_picture_is_not_the_picture(tmp_path: Path) -> None:
    with tifffile.TiffWriter(tmp_path / "photo.tif") as file:
        file.write(np.full((120, 160, 3), 90, np.uint8), photometric="rgb", subfiletype=1)
        file.write(np.full((480, 640, 3), 10, np.uint8), photometric="rgb")
    (said,) = refusals(tmp_path / "photo.tif")
    assert "thumbnail" in said


def plain(bits: int, samples: int, photometric: int, **more: Any) -> Page:
    """64 x 64 px of zeros."""
    side = more.get("tile", 64)
    number = (64 // side) ** 2 * (samples if more.get("planar") == 2 else 1)
    size = side * side * bits * (1 if more.get("planar") == 2 else samples) // 8
    return Page(tags(64, 64, bits, samples, photometric, **more), [bytes(size)] * number)


@pytest.mark.parametrize(
    ("page", "reason"),
    [
        (plain(8, 3, 2, compression=50000), "zstd"),
        (plain(8, 3, 2, compression=34887), "LERC"),
        (plain(8, 3, 2, compression=34925), "LZMA"),
        (plain(8, 3, 2, compression=34925, tile=32), "LZMA"),
        (plain(8, 3, 2, compression=6), "old-style JPEG"),
        (plain(8, 3, 2, compression=6, tile=32), "old-style JPEG"),
        (plain(8, 3, 2, compression=33003), "JPEG 2000"),
        (plain(12, 1, 1), "12 bits"),
        (plain(10, 1, 1), "10 bits"),
        (plain(12, 3, 2, tile=32), "12 bits"),
        (plain(8, 3, 2, planar=2, tile=32), "separate planes of tiles"),
        (plain(8, 3, 8), "Lab colours of 8 bits"),
        (plain(8, 3, 10), "Lab colours"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_kind_that_is_not_read_is_named(page: Page, reason: str, tmp_path: Path) -> None:
    write(tmp_path / "odd.tif", page)
    for said in refusals(tmp_path / "odd.tif"):
        assert reason in said
        assert "save it as" in said
        assert "no whole" not in said
        assert "damaged" not in said


def test_lzma_of_tifffile_is_named(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "a.tif", picture(), photometric="rgb", compression="lzma", tile=(SIDE, SIDE))
    (said,) = refusals(tmp_path / "a.tif")
    assert "LZMA" in said


LAB = (53.7, 30.0, -10.0)


@pytest.mark.parametrize(
    ("bits", "photometric", "stored"),
    [
        (16, 8, struct.pack("<Hhh", round(LAB[0] * 655.35), round(LAB[1] * 256), round(LAB[2] * 256))),
        (16, 9, struct.pack("<HHH", round(LAB[0] * 652.8), round((LAB[1] + 128) * 256), round((LAB[2] + 128) * 256))),
        (8, 9, bytes([round(LAB[0] * 2.55), round(LAB[1] + 128), round(LAB[2] + 128)])),
    ],
    ids=["CIE Lab 16", "ICC Lab 16", "ICC Lab 8"],
)
def test_lab_is_read_as_littlecms_reads_it(bits: int, photometric: int, stored: bytes, tmp_path: Path) -> None:
    write(tmp_path / "lab.tif", Page(tags(64, 64, bits, 3, photometric), [stored * 4096]))
    transform = ImageCms.buildTransform(ImageCms.createProfile("LAB"), ImageCms.createProfile("sRGB"), "LAB", "RGB", 1)
    eight = bytes([round(LAB[0] * 2.55), round(LAB[1]) % 256, round(LAB[2]) % 256])
    expected = ImageCms.applyTransform(Image.frombytes("LAB", (1, 1), eight), transform).getpixel((0, 0))
    np.testing.assert_allclose(read_photo(tmp_path / "lab.tif", HOW)[5, 5], expected, atol=1.5)


# Headers of any kind


@given(st.data())
@settings(max_examples=150)
def test_no_altered_directory_breaks_a_reader(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    """Any byte of a pyramid's directories changed, and the file cut anywhere: read, or refused in one line."""
    base = tmp_path_factory.getbasetemp()
    path = base / "altered.tif"
    if not (base / "pyramid.tif").exists():
        pixels = random_pixels(32, 32, 3)
        copy = Page({**tags(16, 16, 8, 3, 2), 254: (4, [1])}, [pixels[::2, ::2].tobytes()])
        exif = Page({0xA001: (3, [1])}, [])
        tiles = [bytes(768)] * 4
        first = Page({**tags(32, 32, 8, 3, 2, tile=16), 34675: (7, icc_profile(b"RGB ", {}))}, tiles, [copy], {34665: exif})
        write(base / "pyramid.tif", first, copy)
    content = bytearray((base / "pyramid.tif").read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, 700))] = data.draw(st.integers(0, 255))
    path.write_bytes(content[: data.draw(st.integers(0, len(content))) if data.draw(st.booleans()) else None])
    for read in (lambda: read_photo(path, HOW), lambda: inspect(Request(path)), lambda: open_mask(str(path), HOW, "mask")):
        try:
            read()
        except UserError as error:
            assert len(str(error).splitlines()) == 1
