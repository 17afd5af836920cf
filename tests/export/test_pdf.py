"""PDF/X-4: boxes to a hundredth of a millimetre, the TIFF's very pixels, and all that print shops ask a file to say."""

from __future__ import annotations

import io
import re
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pikepdf
import pytest
import pyvips
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageCms

from render.canvas.image import to_integers
from render.canvas.store import CanvasStore
from render.config.schema import OutputConfig
from render.errors import DamagedCheckpoint
from render.export import pdf_images
from render.export.export import Style, export
from render.export.metadata import Metadata, read_settings, srgb_profile
from render.export.panels import cut_panels
from render.export.pdf_images import PngPixels, image_rects
from render.export.pdf_objects import PdfName, PdfWriter, encoded
from render.export.pdf_sheets import lay_out_sheets
from render.export.picture import Encoding
from render.export.profile import Profile, read_profile
from render.geometry.geometry import Interval, Rect, whole
from render.job.reexport import export_run
from render.preflight.inspection import Request, inspect
from tests.conftest import TINY, refusal
from tests.export.test_export import SETTINGS, smooth, stored
from tests.export.test_picture import names
from tests.support.damage import damage
from tests.support.print_tools import boxes_mm, page_picture, poppler

SHAPE = (118, 177)
#: 3 cm wide at 150 dpi are 177.17 px, and 1.5 mm of bleed are 8.86: no size is one of whole pixels.
ORDER = OutputConfig(width_cm=3.0, dpi=150.0, bleed_mm=1.5)
BLEED_PX = 9
BLED_SHAPE = (SHAPE[0] + 2 * BLEED_PX, SHAPE[1] + 2 * BLEED_PX)


@pytest.fixture(scope="module")
def pixels() -> np.ndarray:
    return smooth(BLED_SHAPE)


@pytest.fixture(scope="module")
def canvas(pixels: np.ndarray, tmp_path_factory: pytest.TempPathFactory) -> CanvasStore:
    return stored(tmp_path_factory.mktemp("canvas") / "a", pixels)


def grey_profile() -> Profile:
    """A printer's grey, as ICC profiles say it: linear, from white to black."""
    return Profile(_profile_of("GRAY", "prtr"), "GRAY")


def _profile_of(space: str, device_class: str) -> bytes:
    """Return the smallest profile of grey that littleCMS takes."""
    curve = b"curv" + bytes(4) + (1).to_bytes(4, "big") + (round(1.8 * 256)).to_bytes(2, "big") + bytes(2)
    white = b"XYZ " + bytes(4) + b"".join(round(value * 65536).to_bytes(4, "big") for value in (0.9642, 1.0, 0.8249))
    text = b"a printer's grey\0"
    name = b"desc" + bytes(4) + len(text).to_bytes(4, "big") + text + bytes(79)
    name += bytes(-len(name) % 4)
    tags, content, offset = b"", b"", 128 + 4 + 3 * 12
    for tag, body in ((b"kTRC", curve), (b"wtpt", white), (b"desc", name)):
        tags += tag + (offset + len(content)).to_bytes(4, "big") + len(body).to_bytes(4, "big")
        content += body
    size = offset + len(content)
    header = (
        size.to_bytes(4, "big") + bytes(4) + bytes.fromhex("02400000") + device_class.encode() + space.encode() + b"XYZ "
    )
    header += bytes(12) + b"acsp" + bytes(28) + bytes.fromhex("0000f6d6000100000000d32d")
    return header.ljust(128, b"\0") + (3).to_bytes(4, "big") + tags + content


def written(path: Path, canvas: CanvasStore, style: Style, sheets: Any = ()) -> pikepdf.Pdf:
    """Write a PDF and open it with qpdf, which finds no fault with it."""
    export(canvas, path, "pdf", style, sheets=sheets)
    pdf = pikepdf.open(path)
    assert pdf.check_pdf_syntax() == []
    return pdf


def decoded(image: pikepdf.Object) -> np.ndarray:
    """Return an image's samples, (rows, columns, channels), as qpdf's filters undo their compression."""
    data = image.read_bytes(decode_level=pikepdf.StreamDecodeLevel.specialized)
    dtype = np.dtype(">u2") if image.BitsPerComponent == 16 else np.dtype(np.uint8)
    return np.frombuffer(data, dtype).reshape(int(image.Height), int(image.Width), -1)


def images_of(page: pikepdf.Page) -> list[pikepdf.Object]:
    return [
        image
        for _, image in sorted(page.obj.Resources.XObject.items(), key=lambda item: int(item[0].removeprefix("/Part")))
    ]


# Pixels


@pytest.mark.parametrize("bits", [8, 16])
@pytest.mark.parametrize("space", ["srgb", "p3", "cmyk", "grey"])
def test_the_samples_are_those_of_the_tiff(space: str, bits: int, canvas: CanvasStore, tmp_path: Path) -> None:
    profile = grey_profile() if space == "grey" else read_profile(space)
    style = Style(bits, profile, encoding=Encoding(compression="deflate"))
    export(canvas, tmp_path / "a.tif", "tiff", style)
    with written(tmp_path / "a.pdf", canvas, style) as pdf:
        (image,) = images_of(pdf.pages[0])
        tiff = pyvips.Image.new_from_file(str(tmp_path / "a.tif")).numpy().reshape(*BLED_SHAPE, -1)
        np.testing.assert_array_equal(decoded(image), tiff)
        assert image.BitsPerComponent == bits
        assert image.Filter == "/FlateDecode"
        assert image.DecodeParms.Predictor == 15


def test_poppler_takes_the_same_pixels_out(canvas: CanvasStore, pixels: np.ndarray, tmp_path: Path) -> None:
    written(tmp_path / "a.pdf", canvas, Style()).close()
    poppler("pdfimages", "-png", tmp_path / "a.pdf", tmp_path / "out")
    with Image.open(tmp_path / "out-000.png") as picture:
        np.testing.assert_array_equal(np.asarray(picture), to_integers(pixels, 8))


def test_a_page_is_drawn_upright_and_in_its_colours(canvas: CanvasStore, pixels: np.ndarray, tmp_path: Path) -> None:
    written(tmp_path / "a.pdf", canvas, Style(metadata=Metadata(dpi=72.0))).close()
    drawn = page_picture(tmp_path / "a.pdf", 72)
    assert drawn.shape == pixels.shape
    assert np.abs(drawn - pixels).mean() < 2


@pytest.mark.parametrize("space", ["srgb", "cmyk"])
def test_jpeg_in_pdf_is_close_to_the_picture(space: str, canvas: CanvasStore, pixels: np.ndarray, tmp_path: Path) -> None:
    """Ink is not turned into its absence: a CMYK page is as dark in both."""
    profile = read_profile(space)
    shown, sizes = [], []
    for name, encoding in (("a", Encoding()), ("b", Encoding(98, "jpeg")), ("c", Encoding(30, "jpeg"))):
        with written(tmp_path / f"{name}.pdf", canvas, Style(8, profile, encoding=encoding)) as pdf:
            (image,) = images_of(pdf.pages[0])
            assert image.Filter == ("/FlateDecode" if name == "a" else "/DCTDecode")
        shown.append(page_picture(tmp_path / f"{name}.pdf", 72).astype(float))
        sizes.append((tmp_path / f"{name}.pdf").stat().st_size)
    assert np.abs(shown[1] - shown[0]).mean() < 3
    assert np.abs(shown[2] - shown[0]).mean() < 12
    assert sizes[2] < sizes[1]


@pytest.mark.parametrize("compression", ["deflate", "jpeg"])
def test_a_page_of_several_images_shows_no_border_between_them(
    compression: str, canvas: CanvasStore, pixels: np.ndarray, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pdf_images, "_MAX_SIDE", 65)
    with written(tmp_path / "a.pdf", canvas, Style(encoding=Encoding(95, compression))) as pdf:
        page = pdf.pages[0]
        assert len(images_of(page)) == len(image_rects(whole(*BLED_SHAPE), 3)) == 3 * 4
        if compression == "deflate":
            put_together = np.full(pixels.shape, -1)
            for image, rect in zip(images_of(page), image_rects(whole(*BLED_SHAPE), 3), strict=True):
                put_together[slice(*rect.rows), slice(*rect.columns)] = decoded(image)
            np.testing.assert_array_equal(put_together, to_integers(pixels, 8))
    drawn = page_picture(tmp_path / "a.pdf", 72 * 1.37)
    expected = np.asarray(Image.fromarray(to_integers(pixels, 8)).resize(drawn.shape[1::-1], Image.Resampling.BILINEAR))
    # White paper between two images would be a line a hundred levels brighter.
    assert np.abs(drawn.astype(float) - expected).max() < 60


@given(
    st.integers(1, 300), st.integers(1, 300), st.integers(0, 9), st.integers(0, 9), st.integers(1, 8),
)  # fmt: skip
def test_images_cover_every_pixel_and_none_is_too_large(rows: int, columns: int, top: int, left: int, size: int) -> None:
    rect = Rect(Interval(top, top + rows), Interval(left, left + columns))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pdf_images, "_MAX_SIDE", 70)
        patch.setattr(pdf_images, "_MAX_BYTES", 20_000)
        rects = image_rects(rect, size)
    covered = np.zeros((top + rows, left + columns), bool)
    for part in rects:
        assert part.area > 0
        assert max(part.shape) <= 70
        assert part.area * size <= 20_000 or part.rows.size <= 2
        covered[slice(*part.rows), slice(*part.columns)] = True
    assert covered[top:, left:].all()
    assert covered.sum() == rect.area


def test_a_gigapixel_is_images_that_readers_can_count() -> None:
    assert len(image_rects(whole(20_000, 30_000), 3)) == 1
    rects = image_rects(whole(25_000, 40_000), 8)
    assert len(rects) > 1
    assert all(rect.area * 8 < 2**31 for rect in rects)


@given(
    st.lists(st.tuples(st.sampled_from([b"IHDR", b"IDAT", b"tEXt", b"IEND"]), st.binary(max_size=40)), max_size=8),
    st.integers(1, 50),
)
def test_the_pixels_of_a_png_are_found_in_pieces_of_any_length(chunks: list[tuple[bytes, bytes]], piece: int) -> None:
    png = b"\x89PNG\r\n\x1a\n"
    for name, body in chunks:
        png += len(body).to_bytes(4, "big") + name + body + zlib.crc32(name + body).to_bytes(4, "big")
    received: list[bytes] = []
    receiver = PngPixels(received.append)
    for start in range(0, len(png), piece):
        receiver(png[start : start + piece])
    assert b"".join(received) == b"".join(body for name, body in chunks if name == b"IDAT")


# Sizes


def test_boxes_are_what_was_ordered(canvas: CanvasStore, tmp_path: Path) -> None:
    written(tmp_path / "a.pdf", canvas, Style(), lay_out_sheets(BLED_SHAPE, ORDER, BLEED_PX)).close()
    height = SHAPE[0] / 150 * 25.4
    boxes = boxes_mm(tmp_path / "a.pdf")
    assert boxes["TrimBox"] == pytest.approx((1.5, 1.5, 31.5, height + 1.5), abs=0.01)
    assert boxes["BleedBox"] == boxes["MediaBox"] == pytest.approx((0, 0, 33, height + 3), abs=0.01)


@pytest.mark.parametrize(
    ("order", "trim_mm"),
    [
        (OutputConfig(width_cm=3.0, height_cm=2.0, dpi=150.0), (30, 20)),
        (OutputConfig(width_in=1.18, height_in=0.787, dpi=150.0), (29.972, 19.9898)),
        (OutputConfig(width=177, height=118, dpi=150.0), (29.972, 19.9813)),
        (OutputConfig(width=177), (62.4417, 41.6278)),
        # A canvas of an octave before the last is not of the size ordered.
        (OutputConfig(width_cm=9.0, dpi=150.0), (29.972, 19.9813)),
    ],
)
def test_a_page_is_as_large_as_the_size_says(order: OutputConfig, trim_mm: tuple[float, float]) -> None:
    (sheet,) = lay_out_sheets(SHAPE, order)
    assert tuple(side / 72 * 25.4 for side in sheet.trim.size) == pytest.approx(trim_mm, abs=1e-3)
    assert sheet.trim == sheet.bleed == sheet.media


def test_marks_stand_at_the_trim_outside_of_the_bleed(canvas: CanvasStore, tmp_path: Path) -> None:
    order = OutputConfig(width_cm=3.0, dpi=150.0, bleed_mm=1.5, marks=True)
    (sheet,) = lay_out_sheets(BLED_SHAPE, order, BLEED_PX)
    written(tmp_path / "a.pdf", canvas, Style(), (sheet,)).close()
    boxes = boxes_mm(tmp_path / "a.pdf")
    assert boxes["BleedBox"] == pytest.approx((8, 8, 41, 8 + SHAPE[0] / 150 * 25.4 + 3), abs=0.01)
    assert boxes["TrimBox"][:3] == pytest.approx((9.5, 9.5, 39.5), abs=0.01)
    dpi = 600
    drawn = page_picture(tmp_path / "a.pdf", dpi).min(-1) < 128
    drawn[round(8 / 25.4 * dpi) : -round(8 / 25.4 * dpi), round(8 / 25.4 * dpi) : -round(8 / 25.4 * dpi)] = False
    rows, columns = (np.flatnonzero(drawn.any(axis)) for axis in (1, 0))
    assert rows.min() / dpi * 25.4 == pytest.approx(1, abs=0.1), "a millimetre of paper around the marks"
    # Along the left edge there are two lines, at the height of the trim's edges; so there are above.
    beside = np.flatnonzero(drawn[:, : round(5 / 25.4 * dpi)].any(1)) / dpi * 25.4
    height = boxes["MediaBox"][3]
    expected = [height - boxes["TrimBox"][3], height - boxes["TrimBox"][1]]
    assert sorted({min(expected, key=lambda edge: abs(edge - line)) for line in beside}) == expected
    assert max(min(abs(edge - line) for edge in expected) for line in beside) < 0.15
    assert columns.size
    assert len(list(sheet.marks())) == 8


def test_panels_are_pages_that_put_together_are_the_print(canvas: CanvasStore, pixels: np.ndarray, tmp_path: Path) -> None:
    panels = cut_panels(BLED_SHAPE, 150.0, width_cm=2.0, height_cm=1.5, overlap_mm=2.0)
    sheets = lay_out_sheets(BLED_SHAPE, ORDER, BLEED_PX, panels)
    with written(tmp_path / "a.pdf", canvas, Style(16), sheets) as pdf:
        assert [page.label for page in pdf.pages] == [panel.name for panel in panels.panels]
        assert len(pdf.pages) == 4
        put_together = np.full(pixels.shape, -1)
        for page, panel in zip(pdf.pages, panels.panels, strict=True):
            (image,) = images_of(page)
            put_together[slice(*panel.rect.rows), slice(*panel.rect.columns)] = decoded(image)
        np.testing.assert_array_equal(put_together, to_integers(pixels, 16))
    first, last = boxes_mm(tmp_path / "a.pdf"), boxes_mm(tmp_path / "a.pdf", 4)
    # Outside a panel is cut at the trim, inside nowhere: there it is laid over its neighbour.
    assert first["TrimBox"][0] == pytest.approx(1.5, abs=0.01)
    assert first["TrimBox"][2] == pytest.approx(first["BleedBox"][2], abs=0.001)
    assert last["BleedBox"][2] - last["TrimBox"][2] == pytest.approx(1.5, abs=0.01)
    assert last["TrimBox"][0] == pytest.approx(0, abs=0.001)
    assert first["BleedBox"][2] == pytest.approx(panels.panel_shape[1] / BLED_SHAPE[1] * 33, abs=0.01)


@pytest.mark.parametrize(
    ("shape", "output", "words"),
    [
        ((100, 144_000), OutputConfig(dpi=300.0), ["508 cm", "1,219.2 x 0.8 cm", "output.panels"]),
        ((100, 144_000), OutputConfig(), ["508 cm", "output.panels", "output.dpi"]),
        ((10, 10), OutputConfig(dpi=2540.0), ["smaller than PDF allows", "output.dpi"]),
    ],
)
def test_a_page_that_pdf_does_not_have_is_refused(shape: tuple[int, int], output: OutputConfig, words: list[str]) -> None:
    message = refusal(lambda: lay_out_sheets(shape, output))
    for word in words:
        assert word in message


def test_a_page_of_200_inches_is_the_largest() -> None:
    (sheet,) = lay_out_sheets((1000, 30_000), OutputConfig(width_cm=508.0, dpi=150.0))
    assert sheet.media.right == pytest.approx(14_400)
    panels = cut_panels((1000, 60_000), 150.0, width_cm=500)
    assert len(lay_out_sheets((1000, 60_000), OutputConfig(dpi=150.0), None, panels)) == 3


# What the file says


@pytest.mark.parametrize("space", ["srgb", "cmyk", "grey"])
def test_it_is_pdf_x_4(space: str, canvas: CanvasStore, tmp_path: Path) -> None:
    """Each clause of ISO 15930-7 that concerns a page with a picture."""
    profile = grey_profile() if space == "grey" else read_profile(space)
    style = Style(profile=profile, metadata=Metadata(SETTINGS, "Night (garden) \\ ü", "Me & you", 150.0))
    with written(tmp_path / "a.pdf", canvas, style) as pdf:
        assert pdf.pdf_version == "1.6"
        assert not pdf.is_encrypted
        (intent,) = pdf.Root.OutputIntents
        assert (intent.S, intent.Type) == ("/GTS_PDFX", "/OutputIntent")
        assert str(intent.OutputConditionIdentifier) == "Custom"
        assert str(intent.Info)
        press = ImageCms.ImageCmsProfile(io.BytesIO(intent.DestOutputProfile.read_bytes())).profile
        assert press.device_class == "prtr"
        spaces = {"GRAY": 1, "RGB ": 3, "CMYK": 4}
        assert spaces[press.xcolor_space] == intent.DestOutputProfile.N == {"grey": 1, "srgb": 3, "cmyk": 4}[space]
        (image,) = images_of(pdf.pages[0])
        if space == "srgb":
            kind, stream = image.ColorSpace
            assert (kind, stream.N, stream.Alternate) == ("/ICCBased", 3, "/DeviceRGB")
            assert stream.read_bytes() == srgb_profile()
            assert stream.read_bytes()[8] <= 4
        else:
            # What is in the press' colours already has no other profile than the intent's.
            assert image.ColorSpace == {"cmyk": "/DeviceCMYK", "grey": "/DeviceGray"}[space]
            assert intent.DestOutputProfile.read_bytes() == profile.icc
        page = pdf.pages[0].obj
        media, bleed, trim = (
            np.array([float(side) for side in page[key]]) for key in ("/MediaBox", "/BleedBox", "/TrimBox")
        )
        assert (media[:2] <= bleed[:2]).all()
        assert (bleed[:2] <= trim[:2]).all()
        assert (media[2:] >= bleed[2:]).all()
        assert (bleed[2:] >= trim[2:]).all()
        assert "/ArtBox" not in page
        first, second = pdf.trailer.ID
        assert bytes(first) == bytes(second)
        assert len(bytes(first)) == 16
        for _, entry in enumerate(pdf.objects):
            if isinstance(entry, pikepdf.Stream):
                assert "/F" not in entry
                assert "LZW" not in str(entry.get("/Filter"))


def test_xmp_and_the_information_dictionary_agree(canvas: CanvasStore, tmp_path: Path) -> None:
    style = Style(metadata=Metadata(SETTINGS, "Night (garden) \\ ü", "Me & you", 150.0))
    with written(tmp_path / "a.pdf", canvas, style) as pdf:
        assert "/Filter" not in pdf.Root.Metadata
        with pdf.open_metadata() as xmp:
            assert xmp.pdfx_status == "PDF/X-4"
            assert xmp["dc:title"] == str(pdf.docinfo["/Title"]) == "Night (garden) \\ ü"
            assert xmp["dc:creator"] == ["Me & you"] == [str(pdf.docinfo["/Author"])]
            assert xmp["xmp:CreatorTool"] == str(pdf.docinfo["/Creator"])
            assert xmp["pdf:Producer"] == str(pdf.docinfo["/Producer"])
            assert (xmp["pdf:Trapped"], pdf.docinfo["/Trapped"]) == ("False", "/False")
            assert xmp["xmp:CreateDate"] == xmp["xmp:ModifyDate"] == "2016-01-01T00:00:00Z"
            assert str(pdf.docinfo["/CreationDate"]) == str(pdf.docinfo["/ModDate"]) == "D:20160101000000Z"
            assert re.fullmatch(r"urn:uuid:[0-9a-f-]{36}", xmp["xmpMM:DocumentID"])
            assert (xmp["xmpMM:VersionID"], xmp["xmpMM:RenditionClass"]) == ("1", "default")
    told = poppler("pdfinfo", tmp_path / "a.pdf")
    assert re.search(r"Title: +Night \(garden\) \\ ü\n", told)
    assert re.search(r"PDF subtype: +PDF/X-4", told) or "PDF version:     1.6" in told
    assert read_settings(tmp_path / "a.pdf") == SETTINGS


def test_a_print_without_a_title_has_the_name_of_the_dream(canvas: CanvasStore, tmp_path: Path) -> None:
    for settings, title in (({"name": "poster"}, "poster"), (None, "Untitled")):
        with written(tmp_path / "a.pdf", canvas, Style(metadata=Metadata(settings, "" or None))) as pdf:
            assert str(pdf.docinfo["/Title"]) == title


def test_the_same_dream_is_the_same_file_and_another_is_another(canvas: CanvasStore, tmp_path: Path) -> None:
    for name, title in (("a", "One"), ("b", "One"), ("c", "Two")):
        export(canvas, tmp_path / name, "pdf", Style(metadata=Metadata(SETTINGS, title)))
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    ids = []
    for name in ("a", "c"):
        with pikepdf.open(tmp_path / name) as pdf:
            ids.append(bytes(pdf.trailer.ID[0]))
    assert ids[0] != ids[1]


@pytest.mark.parametrize(
    "value",
    [
        None, True, False, 0, -7, 2**40, 1.5, -0.25, "plain (text) \\", "grüße 猫", b"\0\xff", PdfName("Two words#1"),
        [1, [PdfName("A"), "b"]], {"A": {"B": [True, None]}},
    ],
)  # fmt: skip
def test_values_are_read_back_by_qpdf(value: Any, tmp_path: Path) -> None:
    parsed = pikepdf.Object.parse(encoded(value))

    def plain(part: Any) -> Any:
        if isinstance(part, pikepdf.String):
            return bytes(part) if isinstance(value, bytes) else str(part)
        if isinstance(part, pikepdf.Name):
            return str(part)[1:]
        if isinstance(part, pikepdf.Array):
            return [plain(item) for item in part]
        if isinstance(part, pikepdf.Dictionary):
            return {key[1:]: plain(item) for key, item in part.items()}
        return part if part is None or isinstance(part, bool | int) else float(part)

    assert plain(parsed) == value


def test_offsets_beyond_four_gigabytes_are_written(tmp_path: Path) -> None:
    """A file of holes: five GB that take no space, behind which the last objects lie."""
    path = tmp_path / "a.pdf"

    class Holes(io.RawIOBase):
        """A file in which zeros are holes."""

        def write(self, data: Any) -> int:
            if len(data) == 1 << 20:
                file.seek(len(data), io.SEEK_CUR)
            else:
                file.write(data)
            return len(data)

    with path.open("wb") as file:
        writer = PdfWriter(Holes())
        with writer.stream({}) as (_, write):
            for _ in range(5000):
                write(bytes(1 << 20))
        tree = writer.reserve()
        page = writer.add({"Type": PdfName("Page"), "Parent": tree, "MediaBox": [0, 0, 72, 144]})
        writer.add({"Type": PdfName("Pages"), "Kids": [page], "Count": 1}, tree)
        writer.finish(writer.add({"Type": PdfName("Catalog"), "Pages": tree}), writer.add({"Title": "x"}), bytes(16))
    assert path.stat().st_size > 5 * 10**9
    assert boxes_mm(path)["MediaBox"] == pytest.approx((0, 0, 25.4, 50.8), abs=0.01)
    with pikepdf.open(path) as pdf:
        assert str(pdf.docinfo["/Title"]) == "x"
    path.unlink()


# What goes wrong


def test_a_damaged_chunk_ends_the_export_and_leaves_nothing(pixels: np.ndarray, tmp_path: Path) -> None:
    broken = stored(tmp_path / "broken", smooth((1100, 1900)))
    (chunk,) = (tmp_path / "broken" / "c" / "1" / "2").iterdir()
    damage(chunk)
    with pytest.raises(DamagedCheckpoint, match="damaged chunk"):
        export(broken, tmp_path / "a.pdf", "pdf", Style())
    assert names(tmp_path) == ["broken"]


# The command


def test_a_pdf_is_rendered_and_exported_as_typed(command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    words = ("output.width=null", "output.width_cm=3", "output.dpi=80", "output.bleed_mm=2", "output.title=Cat")
    result = command(*TINY, *words, "output.dir=run", "output.format=pdf", "output.also=[tiff]", "output.marks=true")
    assert result.code == 0, result.err
    assert result.out.strip().splitlines()[-2:] == ["run/preview.pdf", "run/preview.tif"]
    assert boxes_mm(tmp_path / "run" / "preview.pdf")["TrimBox"][:3:2] == pytest.approx((10, 40), abs=0.01)
    with pikepdf.open(tmp_path / "run" / "preview.pdf") as pdf:
        (image,) = images_of(pdf.pages[0])
        tiff = pyvips.Image.new_from_file(str(tmp_path / "run" / "preview.tif")).numpy()
        np.testing.assert_array_equal(decoded(image), tiff)
    settings = command("settings", "image=run/preview.pdf")
    assert settings.code == 0, settings.err
    assert '"title": "Cat"' in settings.out
    # Another resolution is another size on paper, of the same pixels; without marks unless they are asked for.
    words = ("output.path=x.pdf", "output.dpi=160", "output.profile=cmyk")
    assert command("export", "run=run", *words).code == 0
    boxes = boxes_mm(tmp_path / "x.pdf")
    assert boxes["TrimBox"][2] - boxes["TrimBox"][0] == pytest.approx(94 / 160 * 25.4, abs=0.01)
    assert boxes["MediaBox"] == boxes["BleedBox"]
    # The same once more is no replacement, and what is not ours stays.
    monkeypatch.chdir(tmp_path)
    before = (tmp_path / "x.pdf").read_bytes()
    export_run(Path("run"), words, print)
    assert (tmp_path / "x.pdf").read_bytes() == before
    (tmp_path / "mine.pdf").write_bytes(b"%PDF-1.4 precious")
    assert "overwrite=true" in refusal(lambda: export_run(Path("run"), ["output.path=mine.pdf"], print))
    message = refusal(lambda: export_run(Path("run"), ["output.path=y.pdf", "output.dpi=null"], print))
    assert "output.bleed_mm needs output.dpi" in message
    message = refusal(lambda: inspect(Request(Path("x.pdf"))))
    assert "x.pdf" in message
    assert "PDF" in message


def test_panels_are_one_file_with_a_map(command, tmp_path: Path) -> None:
    words = ("output.dpi=100", "output.format=pdf", "output.panels.width_cm=1", "output.panels.overlap_mm=2")
    result = command(*TINY, *words, "output.dir=run")
    assert result.code == 0, result.err
    assert result.out.strip().splitlines()[-2:] == ["run/preview.pdf", "run/preview-panels"]
    assert (tmp_path / "run" / "preview-panels" / "map.png").exists()
    assert not list((tmp_path / "run" / "preview-panels").glob("A*"))
    with pikepdf.open(tmp_path / "run" / "preview.pdf") as pdf:
        assert [page.label for page in pdf.pages] == ["A1", "A2", "A3"]


def test_a_page_too_large_is_refused_before_anything_is_dreamed(command, tmp_path: Path) -> None:
    words = (*TINY, "output.format=pdf", "output.dpi=1", "output.width=1000", "output.dir=run")
    command("plan", *words).refused("508 cm", "output.panels")
    command(*words).refused("508 cm", "output.panels")
    assert not (tmp_path / "run").exists()
    command("plan", *words, "output.panels.width_cm=200").refused("508 cm", "smaller panels")


def test_a_sweep_says_that_its_gallery_shows_no_pdf(command) -> None:
    command("sweep", *TINY, "sweep.axes.seed=[1,2]", "output.format=pdf").refused("output.format=pdf", "output.also=[pdf]")
