"""Photoshop's large documents, as another program reads them, to the last pixel and beyond 4 GiB."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import pyvips
from psd_tools import PSDImage
from psd_tools.constants import ColorMode, Resource

from render.canvas.image import CanvasImage, to_integers
from render.canvas.store import CanvasStore
from render.errors import DamagedCheckpoint
from render.export import psb
from render.export.export import Style, export
from render.export.metadata import Metadata, read_settings
from render.export.picture import Encoding
from render.export.profile import read_profile
from render.storage.markers import MARKER
from tests.conftest import TINY
from tests.export.test_export import SETTINGS, SHAPE, smooth, stored
from tests.export.test_pdf import grey_profile
from tests.export.test_picture import names
from tests.support.damage import damage


@pytest.fixture(scope="module")
def canvases(tmp_path_factory: pytest.TempPathFactory) -> dict[str, CanvasStore]:
    """One of several strips, and small ones where a conversion of colours takes longer."""
    directory = tmp_path_factory.mktemp("canvases")
    small = stored(directory / "small", smooth((240, 321)))
    return {"srgb": stored(directory / "large", smooth(SHAPE)), "cmyk": small, "grey": small}


@pytest.mark.parametrize("bits", [8, 16])
@pytest.mark.parametrize("space", ["srgb", "cmyk", "grey"])
def test_photoshop_documents_hold_the_samples_of_the_tiff(
    space: str, bits: int, canvases: dict[str, CanvasStore], tmp_path: Path
) -> None:
    canvas = canvases[space]
    profile = grey_profile() if space == "grey" else read_profile(space)
    style = Style(bits, profile, encoding=Encoding(compression="deflate"), metadata=Metadata(SETTINGS, "Night", dpi=240.0))
    export(canvas, tmp_path / "a.tif", "tiff", style)
    export(canvas, tmp_path / "a.psb", "psb", style)
    tiff = pyvips.Image.new_from_file(str(tmp_path / "a.tif")).numpy().reshape(*canvas.shape, -1)
    document = PSDImage.open(tmp_path / "a.psb")
    modes = {"srgb": ColorMode.RGB, "cmyk": ColorMode.CMYK, "grey": ColorMode.GRAYSCALE}
    assert (document.version, document.depth, document.color_mode) == (2, bits, modes[space])
    assert (document.height, document.width, document.channels) == tiff.shape
    channels = [
        np.frombuffer(data, f">u{bits // 8}") for data in document._record.image_data.get_data(document._record.header)
    ]
    samples = np.stack(channels, -1).reshape(tiff.shape)
    if space == "cmyk":
        samples = np.iinfo(samples.dtype).max - samples
    np.testing.assert_array_equal(samples, tiff)
    resources = document.image_resources
    assert resources.get_data(Resource.ICC_PROFILE) == profile.icc
    resolution = resources.get_data(Resource.RESOLUTION_INFO)
    assert (resolution.horizontal, resolution.vertical) == (240 << 16, 240 << 16)
    assert (resolution.horizontal_unit, resolution.vertical_unit, resolution.width_unit) == (1, 1, 1)
    assert read_settings(tmp_path / "a.psb") == SETTINGS
    assert b'<rdf:li xml:lang="x-default">Night<' in bytes(resources.get_data(Resource.XMP_METADATA))
    assert names(tmp_path) == ["a.psb", "a.tif"]


def test_a_document_of_five_gigabytes_has_every_channel_in_its_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Strips of a picture that is zero but for three rows: zeros are holes of the file, so it takes no space."""
    width, height, marked = 30_000, 28_000, (0, 13_999, 27_999)
    image = pyvips.Image.black(width, height, bands=3).copy(interpretation="rgb16").cast("ushort")

    def strips(_image: pyvips.Image):
        for top in marked:
            yield top, (np.arange(3 * width) % 65_521 + top).astype(np.uint16).reshape(1, width, 3)

    monkeypatch.setattr(psb, "_strips", strips)
    path = tmp_path / "a.psb"
    psb.write_psb(path, CanvasImage(image), Metadata(SETTINGS))
    with path.open("rb") as file:
        head = file.read(1 << 20)
        start = head.index(b"8BIM\x04\x24")
        packet_bytes = int.from_bytes(head[start + 8 : start + 12], "big")
        # The packet is the last resource; no layers and no compression take 10 bytes.
        start += 12 + packet_bytes + packet_bytes % 2 + 10
        assert path.stat().st_size == start + 3 * 2 * width * height > 5 * 10**9
        for top, strip in strips(image):
            for channel in range(3):
                file.seek(start + 2 * width * (channel * height + top))
                np.testing.assert_array_equal(np.frombuffer(file.read(2 * width), ">u2"), strip[0, :, channel])
    assert read_settings(path) == SETTINGS
    path.unlink()


def test_a_damaged_chunk_leaves_nothing(tmp_path: Path) -> None:
    broken = stored(tmp_path / "broken", smooth((1100, 1900)))
    (chunk,) = (tmp_path / "broken" / "c" / "1" / "2").iterdir()
    damage(chunk)
    with pytest.raises(DamagedCheckpoint, match="damaged chunk"):
        export(broken, tmp_path / "a.psb", "psb", Style())
    assert names(tmp_path) == ["broken"]


@pytest.mark.parametrize("content", [b"8BPS", b"8BPS" + bytes(26), b"8BPS" + b"\xff" * 100, b"%PDF-1.6\n<?xpacket begin"])
def test_a_file_that_ends_early_or_lies_holds_no_settings(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "a.psb").write_bytes(content)
    assert read_settings(tmp_path / "a.psb") == {}


def test_a_document_is_exported_as_typed(command, tmp_path: Path) -> None:
    assert command(*TINY, "output.dir=run").code == 0
    result = command("export", "run=run", "output.path=cat.psb", "output.bits=16")
    assert result.code == 0, result.err
    document = PSDImage.open(tmp_path / "cat.psb")
    assert (document.width, document.depth) == (96, 16)
    png = pyvips.Image.new_from_file(str(tmp_path / "run" / "preview.png")).numpy()
    shown = np.asarray(document.composite().convert("RGB"))
    assert np.abs(shown.astype(float) - png).max() <= 1
    assert to_integers(png.astype(np.float32), 8).shape == png.shape


def test_panels_are_documents_and_other_formats_replace_them(command, tmp_path: Path) -> None:
    words = ("output.dpi=100", "output.panels.width_cm=1", "output.panels.overlap_mm=2")
    assert command(*TINY, *words, "output.format=pdf", "output.dir=run").code == 0
    panels = tmp_path / "run" / "preview-panels"
    assert {path.name for path in panels.iterdir()} == {MARKER, "map.png"}
    assert command("export", "run=run", *words[1:], "output.format=psb").code == 0
    assert {path.name for path in panels.iterdir()} == {MARKER, "map.png", "A1.psb", "A2.psb", "A3.psb"}
    print_image = np.asarray(PSDImage.open(tmp_path / "run" / "preview.psb").composite())
    first = PSDImage.open(panels / "A1.psb")
    np.testing.assert_array_equal(np.asarray(first.composite()), print_image[:, : first.width])
    assert "writing" not in command("export", "run=run", *words[1:], "output.format=psb").err
