"""Delivered files: viewers know what they are, and nobody learns where their maker's files lie."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pikepdf
import pytest
import pyvips
import tifffile
from PIL import Image

from render.config.formats import FORMATS
from render.export.export import Style, export
from render.export.metadata import Metadata, read_settings
from render.export.picture import Encoding, image_of, write_picture
from render.export.profile import read_profile
from render.job.reexport import export_run
from tests.conftest import TINY, rendered
from tests.export.test_export import smooth, stored
from tests.source.test_source import photo

FILES = ("png", "jpeg", "webp", "tiff", "bigtiff")


def texts(path: Path) -> Iterator[bytes]:
    """Yield the bytes of a file or of every file in a directory, and what is compressed in them."""
    for file in sorted(path.rglob("*")) if path.is_dir() else [path]:
        if not file.is_file():
            continue
        content = file.read_bytes()
        yield content
        if file.suffix == ".pdf":
            with pikepdf.open(io.BytesIO(content)) as pdf:
                yield from (
                    entry.read_bytes() for entry in pdf.objects if isinstance(entry, pikepdf.Stream) and "/N" in entry
                )
        if file.suffix == ".png":
            with Image.open(file) as picture:
                yield str(picture.info).encode()


def test_no_delivered_file_says_where_its_makers_files_lie(tmp_path: Path) -> None:
    """Of all formats, with every input that can be a file: image, mask, guide, labels, colours to match, press."""
    secret = tmp_path / "secret-home"
    secret.mkdir()
    for name in ("me.png", "mask.png", "guide.png", "match.png"):
        write_picture(secret / name, image_of(photo(60, 83)), "png")
    (secret / "press.icc").write_bytes(read_profile("p3").icc)
    run = rendered(
        secret / "run", *TINY, f"image={secret / 'me.png'}", f"objective.mask={secret / 'mask.png'}",
        f"objective.terms=[mixed0,{{layer: mixed1, guide: '{secret / 'guide.png'}'}}]",
        f"output.match={secret / 'match.png'}", f"output.profile={secret / 'press.icc'}", "output.dpi=100",
        "output.panels.width_cm=1", "output.panels.overlap_mm=1",
        f"output.path={secret / 'out' / 'a.tif'}", "output.also=[png,jpeg,webp,bigtiff,dzi,zarr,pdf,psb,iiif]",
    )  # fmt: skip
    delivered = [path for path in run.iterdir() if path.name.startswith("preview") and path.name != "previews"]
    assert len(delivered) == len(FORMATS) + 1
    for path in [*delivered, secret / "out"]:
        for content in texts(path):
            assert b"secret-home" not in content, path
            assert "secret-home".encode("utf-16-le") not in content, path
    assert read_settings(run / "preview.pdf")["output"]["profile"] == "press.icc"
    # Where the files are known from elsewhere, as in an export, they do not tell either.
    words = ["output.path=web/x.dzi", f"output.profile={secret / 'press.icc'}", f"output.match={secret / 'match.png'}"]
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path)
        export_run(run, words, lambda _line: None)
    for content in texts(tmp_path / "web"):
        assert b"secret-home" not in content


@pytest.mark.parametrize("form", FILES)
def test_a_panorama_says_that_it_is_one(form: str, tmp_path: Path) -> None:
    settings = {"boundary": {"mode": "wrap_x"}, "print": {"canvas": [60, 120]}}
    export(stored(tmp_path / "canvas", smooth((60, 120))), tmp_path / "out", form, Style(metadata=Metadata(settings)))
    packet = pyvips.Image.new_from_file(str(tmp_path / "out")).get("xmp-data")
    for field in (
        b'xmlns:GPano="http://ns.google.com/photos/1.0/panorama/"',
        b"<GPano:ProjectionType>equirectangular<",
        b"<GPano:UsePanoramaViewer>True<",
        b"<GPano:FullPanoWidthPixels>120<",
        b"<GPano:FullPanoHeightPixels>60<",
        b"<GPano:CroppedAreaImageWidthPixels>120<",
        b"<GPano:CroppedAreaImageHeightPixels>60<",
        b"<GPano:CroppedAreaLeftPixels>0<",
        b"<GPano:CroppedAreaTopPixels>0<",
    ):
        assert field in packet
    assert read_settings(tmp_path / "out") == settings


@pytest.mark.parametrize(
    ("shape", "settings"),
    [
        ((60, 121), {"boundary": {"mode": "wrap_x"}}),
        ((60, 120), {"boundary": {"mode": "reflect"}}),
        ((60, 120), {"boundary": {"mode": "wrap"}}),
        # A panel of a panorama.
        ((60, 120), {"boundary": {"mode": "wrap_x"}, "print": {"canvas": [120, 240]}}),
        ((60, 120), {"boundary": "wrap_x"}),
        ((60, 120), None),
    ],
)
def test_what_is_no_whole_panorama_does_not_say_so(shape: tuple[int, int], settings: dict, tmp_path: Path) -> None:
    write_picture(tmp_path / "out", image_of(photo(*shape)), "jpeg", Metadata(settings))
    assert b"GPano" not in (tmp_path / "out").read_bytes()


@pytest.mark.parametrize("bits", [8, 16])
@pytest.mark.parametrize(("width", "rows"), [(7, 300), (1809, 200), (60_000, 40)])
def test_strips_of_a_tiff_have_a_few_hundred_kilobytes(width: int, rows: int, bits: int, tmp_path: Path) -> None:
    """Neither a row each, which is slow to read, nor all in one, which needs the memory of the whole."""
    canvas = stored(tmp_path / "canvas", np.resize(smooth((rows, 100)), (rows, width, 3)))
    for compression in ("lzw", "none", *(["jpeg"] if bits == 8 else [])):
        export(canvas, tmp_path / "a.tif", "tiff", Style(bits, encoding=Encoding(compression=compression)))
        with tifffile.TiffFile(tmp_path / "a.tif") as read:
            page = read.pages[0]
            strip = page.rowsperstrip * width * 3 * bits // 8
            row_bytes = strip // page.rowsperstrip
        if rows * row_bytes > 600_000:
            most = 16 * row_bytes if compression == "jpeg" else row_bytes
            assert 100_000 <= strip <= max(300_000, most)
        if compression == "jpeg":
            assert page.rowsperstrip % 16 == 0 or page.rowsperstrip == rows
