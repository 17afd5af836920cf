"""Finished pictures: read back by Pillow, with their settings, resolution and profile; and never half of one."""

from __future__ import annotations

import errno
import hashlib
import io
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
import pyvips
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from PIL import Image, ImageCms, PngImagePlugin, TiffImagePlugin

from render.canvas.image import to_integers
from render.config.schema import SourceConfig
from render.errors import UserError
from render.export import picture as module
from render.export.metadata import Metadata, read_settings, srgb_profile
from render.export.picture import Encoding, image_of, replacing, write_picture
from render.export.print_layout import PrintLayout
from render.job.report import print_settings
from render.preflight.preflight import Request, inspect
from render.source.photo import read_photo
from tests.conftest import ROOT
from tests.source.test_source import as_somebody_else, photo, random_pixels

FORMS = ("png", "jpeg", "webp", "tiff", "bigtiff")
LOSSLESS = ("png", "tiff", "bigtiff")
forms = pytest.mark.parametrize("form", FORMS)
SETTINGS: dict[str, Any] = {
    "seed": 7,
    "image": "grüße 猫 'n\" \\ (1).png",
    "octaves": {"scale": 1.4, "count": 5},
    "objective": {"terms": ["mixed3", {"layer": "mixed4", "channels": [1, 2]}]},
    "output": {"width": None},
}


def write(
    path: Path, pixels: np.ndarray, form: str, settings: Any = None, *, dpi: float | None = None, quality: int = 92
) -> None:
    write_picture(path, image_of(pixels), form, Metadata(settings, dpi=dpi), Encoding(quality))


def names(directory: Path) -> list[str]:
    """All that lies there, hidden or not."""
    return sorted(path.name for path in directory.iterdir())


@forms
def test_pillow_reads_what_was_written(form: str, tmp_path: Path) -> None:
    pixels = photo(60, 83)
    path = tmp_path / "deep" / "er" / "out"
    write(path, pixels, form)
    with Image.open(path) as read:
        assert read.format == ("TIFF" if form == "bigtiff" else form.upper())
        assert read.mode == "RGB"
        difference = np.abs(np.asarray(read, float) - pixels)
    if form in LOSSLESS:
        assert difference.max() == 0
    else:
        assert difference.mean() < 2
    assert names(path.parent) == [path.name]


@pytest.mark.parametrize("form", ["jpeg", "webp"])
def test_quality_is_quality(form: str, tmp_path: Path) -> None:
    pixels = random_pixels(64, 64, 3)
    errors, sizes = [], []
    for quality in (10, 50, 92, 100):
        path = tmp_path / f"{quality}"
        write(path, pixels, form, quality=quality)
        with Image.open(path) as read:
            errors.append(np.abs(np.asarray(read, float) - pixels).mean())
        sizes.append(path.stat().st_size)
    assert errors == sorted(errors, reverse=True)
    assert sizes == sorted(sizes)
    assert len(set(sizes)) == 4


def test_jpeg_keeps_the_full_resolution_of_colour(tmp_path: Path) -> None:
    """No chroma subsampling: one-pixel stripes of red and blue stay apart."""
    pixels = np.zeros((32, 32, 3), np.uint8)
    pixels[:, ::2, 0], pixels[:, 1::2, 2] = 255, 255
    write(tmp_path / "stripes.jpg", pixels, "jpeg", quality=95)
    with Image.open(tmp_path / "stripes.jpg") as read:
        assert np.abs(np.asarray(read, float) - pixels).mean() < 6


@forms
def test_the_next_dream_reads_the_same_pixels(form: str, tmp_path: Path) -> None:
    """A picture that this program wrote is a good source for it."""
    write(tmp_path / "out", photo(), form, SETTINGS, quality=100)
    with Image.open(tmp_path / "out") as picture:
        expected = np.asarray(picture, np.float32)
    assert np.abs(read_photo(tmp_path / "out", SourceConfig()) - expected).max() <= 1


@forms
def test_settings_come_back(form: str, tmp_path: Path) -> None:
    path = tmp_path / "out"
    write(path, photo(), form, SETTINGS)
    assert read_settings(path) == SETTINGS
    # And with nothing but Pillow:
    with Image.open(path) as read:
        if form == "png":
            assert isinstance(read, PngImagePlugin.PngImageFile)
            description, software = read.text["Description"], read.text["Software"]
        elif form in LOSSLESS:
            assert isinstance(read, TiffImagePlugin.TiffImageFile)
            description, software = read.tag_v2[270], "in XMP alone"
        else:
            description, software = read.getexif()[0x010E], read.getexif()[0x0131]
        packet = read.info.get("xmp") or read.info["XML:com.adobe.xmp"].encode()
    assert json.loads(description) == SETTINGS
    assert software.startswith("pareidolia ") or form in ("tiff", "bigtiff")
    assert b"<xmp:CreatorTool>pareidolia " in packet


@forms
def test_title_and_author_are_in_xmp_whatever_they_hold(form: str, tmp_path: Path) -> None:
    """And in the format's own fields where those can hold them."""
    for title, author in (("Dämmerung <&> (ein Traum) \u732b", 'Ü. "B" (C)\0\b'), ("A plain title", "Somebody")):
        write_picture(tmp_path / "out", image_of(photo()), form, Metadata(SETTINGS, title, author))
        with Image.open(tmp_path / "out") as read:
            packet = read.info.get("xmp") or read.info["XML:com.adobe.xmp"].encode()
            authors = [read.text.get("Author")] if form == "png" else [read.getexif().get(0x013B)]
        texts = [element.text for element in ElementTree.fromstring(packet.rstrip(b"\0")).iter()]
        assert title in texts
        assert author.rstrip("\0\b") in texts
        assert authors == (["Somebody"] if author == "Somebody" and form not in ("tiff", "bigtiff") else [None])
        assert read_settings(tmp_path / "out") == SETTINGS


@forms
def test_without_settings_there_are_none(form: str, tmp_path: Path) -> None:
    write(tmp_path / "out", photo(), form)
    assert read_settings(tmp_path / "out") == {}


@pytest.mark.parametrize("description", ["OLYMPUS DIGITAL CAMERA", "[1, 2]", '"text"', "{broken"])
def test_somebody_elses_description_is_no_settings(description: str, tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x010E] = description
    Image.fromarray(photo()).save(tmp_path / "camera.jpg", exif=exif)
    assert read_settings(tmp_path / "camera.jpg") == {}


HEAD = (
    b"<x:xmpmeta xmlns:x='adobe:ns:meta/' xmlns:rdf='http://www.w3.org/1999/02/22-rdf-syntax-ns#' "
    b"xmlns:dc='http://purl.org/dc/elements/1.1/'>"
)
DEEP = 100_000


def described(text: bytes) -> bytes:
    return HEAD + b"<dc:description><rdf:Alt><rdf:li>" + text + b"</rdf:li></rdf:Alt></dc:description></x:xmpmeta>"


@pytest.mark.parametrize(
    "packet",
    [
        HEAD + b"<a>" * DEEP + b"</a>" * DEEP + b"</x:xmpmeta>",
        HEAD + b"<a>" * DEEP,
        described(b"<a>" * DEEP + b"</a>" * DEEP),
        described(b"[" * DEEP + b"]" * DEEP),
        described(b'{"a":' * DEEP + b"1" + b"}" * DEEP),
        described(b'{"a":' * 900 + b"1" + b"}" * 900),
        described(b"9" * DEEP),
        b"<!DOCTYPE x [<!ENTITY a '{}'>]>" + described(b"&a;"),
        b"<!DOCTYPE x [<!ENTITY a SYSTEM 'file:///etc/passwd'>]>" + described(b"&a;"),
        b"\xff\xfe\0",
    ],
    ids=["elements", "open", "inside", "lists", "mappings", "900", "digits", "entity", "file", "no text"],
)
@pytest.mark.parametrize("form", ["png", "webp", "tif"])
def test_no_packet_breaks_what_reads_settings(packet: bytes, form: str, tmp_path: Path) -> None:
    image = image_of(photo()).copy()
    image.set_type(pyvips.GValue.blob_type, "xmp-data", packet)
    path = tmp_path / f"a.{form}"
    image.write_to_file(str(path))
    assert read_settings(path) == {}
    with pytest.raises(UserError, match="holds no settings"):
        print_settings(str(path))
    assert inspect(Request(path)).layout == PrintLayout()


@pytest.mark.parametrize("name", ["/dev/zero", "pipe", "."])
def test_settings_of_what_is_no_file_are_refused_and_not_waited_for(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    os.mkfifo("pipe")
    with pytest.raises(UserError, match="device, pipe or directory"):
        print_settings(name)


@pytest.mark.parametrize("dpi", [72, 150, 300, 300.5, 1])
def test_resolution_is_in_png_and_jpeg(dpi: float, tmp_path: Path) -> None:
    for form in FORMS:
        write(tmp_path / form, photo(), form, dpi=dpi)
    for form in ("tiff", "bigtiff"):
        with Image.open(tmp_path / form) as read:
            assert read.info["dpi"] == pytest.approx((dpi, dpi), abs=0.01)
    with Image.open(tmp_path / "png") as read:
        # A PNG counts pixels per metre, in whole numbers.
        assert read.info["dpi"] == pytest.approx((dpi, dpi), abs=0.0128)
    with Image.open(tmp_path / "jpeg") as read:
        assert read.info["dpi"] == pytest.approx((dpi, dpi), abs=0.5)


@pytest.mark.parametrize("form", [form for form in FORMS if form != "webp"])
def test_without_a_resolution_files_say_72(form: str, tmp_path: Path) -> None:
    """Formats want a figure: the customary one, not one that is made up."""
    write(tmp_path / "out", photo(), form)
    with Image.open(tmp_path / "out") as read:
        assert read.info["dpi"] == pytest.approx((72, 72), abs=0.0128)


@forms
def test_the_profile_inside_is_srgb(form: str, tmp_path: Path) -> None:
    write(tmp_path / "out", photo(), form)
    with Image.open(tmp_path / "out") as read:
        content = read.info["icc_profile"]
    profile = ImageCms.ImageCmsProfile(io.BytesIO(content))
    assert "sRGB" in ImageCms.getProfileDescription(profile)
    assert profile.profile.xcolor_space.strip() == "RGB"
    assert profile.profile.creation_date is not None
    every = Image.fromarray(random_pixels(64, 64, 3))
    managed = ImageCms.profileToProfile(every, profile, ImageCms.createProfile("sRGB"))
    assert managed is not None
    assert np.abs(np.asarray(managed, float) - np.asarray(every)).max() <= 1


def test_the_profile_does_not_know_what_time_it_is() -> None:
    """Little CMS writes the time of creation into every profile that it makes."""
    first = srgb_profile.__wrapped__()
    raw = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    time.sleep(1.1)
    later = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    assert raw != later, "the clock shows in Little CMS' own"
    assert srgb_profile.__wrapped__() == first
    assert first[36:40] == b"acsp"
    assert int.from_bytes(first[:4], "big") == len(first)


def test_the_same_arguments_give_the_same_bytes(tmp_path: Path) -> None:
    """In another process, a second later, with keys in another order."""
    np.save(tmp_path / "pixels.npy", photo())
    script = """
import json, sys
from pathlib import Path
import numpy as np
from render.export.metadata import Metadata
from render.export.picture import image_of, write_picture
settings = dict(reversed(json.loads(sys.stdin.read()).items()))
for form in ("png", "jpeg", "webp", "tiff", "bigtiff"):
    write_picture(Path(f"there.{form}"), image_of(np.load("pixels.npy")), form, Metadata(settings, dpi=150))
"""
    for form in FORMS:
        write(tmp_path / f"here.{form}", photo(), form, SETTINGS, dpi=150)
    time.sleep(1.1)
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONHASHSEED": "1"}
    words = [sys.executable, "-c", script]
    subprocess.run(words, input=json.dumps(SETTINGS), cwd=tmp_path, env=environment, text=True, check=True)
    for form in FORMS:
        assert (tmp_path / f"here.{form}").read_bytes() == (tmp_path / f"there.{form}").read_bytes()


@forms
def test_other_arguments_give_other_bytes(form: str, tmp_path: Path) -> None:
    contents = set()
    for pixels, settings in ((photo(), SETTINGS), (255 - photo(), SETTINGS), (photo(), {"seed": 8}), (photo(), None)):
        write(tmp_path / "out", pixels, form, settings)
        contents.add((tmp_path / "out").read_bytes())
    assert len(contents) == 4


# What goes wrong


def refused(path: Path, pixels: np.ndarray, form: str, **options: Any) -> str:
    with pytest.raises(UserError) as caught:
        write(path, pixels, form, **options)
    message = str(caught.value)
    assert len(message.splitlines()) == 1
    assert str(path) in message
    return message


def test_an_encoder_that_fails_leaves_the_old_picture_and_nothing_else(tmp_path: Path) -> None:
    """WebP holds 16,383 px a side."""
    path = tmp_path / "out.webp"
    write(path, photo(), "webp")
    before = hashlib.sha256(path.read_bytes()).hexdigest()
    message = refused(path, np.zeros((2, 16384, 3), np.uint8), "webp")
    assert "output.format=png" in message
    assert hashlib.sha256(path.read_bytes()).hexdigest() == before
    assert names(tmp_path) == ["out.webp"]


def test_settings_too_long_for_a_jpeg_are_refused_without_a_trace(tmp_path: Path) -> None:
    assert "no room for settings" in refused(tmp_path / "out.jpg", photo(), "jpeg", settings={"terms": ["mixed4"] * 10_000})
    assert names(tmp_path) == []
    write(tmp_path / "out.png", photo(), "png", {"terms": ["mixed4"] * 10_000})
    assert len(read_settings(tmp_path / "out.png")["terms"]) == 10_000


def test_a_disk_that_fills_up_leaves_the_old_picture(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The bytes are out, and then the disk says no."""
    path = tmp_path / "out.png"
    write(path, photo(), "png")
    before = path.read_bytes()

    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(module.os, "fsync", full)
    message = refused(path, 255 - photo(), "png")
    assert "No space left" in message
    assert "free some space" in message
    assert path.read_bytes() == before
    assert names(tmp_path) == ["out.png"]


def test_an_interruption_leaves_the_old_picture(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "out.png"
    write(path, photo(), "png")
    before = path.read_bytes()

    def interrupted(descriptor: int) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(module.os, "fsync", interrupted)
    with pytest.raises(KeyboardInterrupt):
        write(path, 255 - photo(), "png")
    assert path.read_bytes() == before
    assert names(tmp_path) == ["out.png"]


def test_a_file_to_keep_is_kept_and_nothing_else_is_left(tmp_path: Path) -> None:
    with replacing(tmp_path / "mine", keep=True) as file:
        file.write(b"first")
    with pytest.raises(FileExistsError), replacing(tmp_path / "mine", keep=True) as file:
        file.write(b"second")
    assert (tmp_path / "mine").read_bytes() == b"first"
    assert names(tmp_path) == ["mine"]


@pytest.mark.parametrize("code", [errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.EMLINK])
def test_a_file_is_kept_where_there_are_no_links(code: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_names: object) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(os, "link", refuse)
    test_a_file_to_keep_is_kept_and_nothing_else_is_left(tmp_path)


def test_the_old_picture_is_replaced_by_a_whole_one(tmp_path: Path) -> None:
    path = tmp_path / "out.png"
    write(path, random_pixels(90, 90, 3), "png")
    write(path, photo(10, 10), "png")
    with Image.open(path) as read:
        np.testing.assert_array_equal(np.asarray(read), photo(10, 10))


def test_a_directory_that_may_not_be_written_to() -> None:
    with as_somebody_else():
        message = refused(Path("/") / "out.png", photo(), "png")
    assert "Permission denied" in message
    assert "output.path" in message


def test_a_place_that_cannot_be(tmp_path: Path) -> None:
    """Below a file, in a directory's stead, under a name too long, on a file system of the kernel's."""
    (tmp_path / "file").write_text("here already")
    (tmp_path / "folder.png").mkdir()
    refused(tmp_path / "file" / "out.png", photo(), "png")
    refused(tmp_path / "file" / "further" / "out.png", photo(), "png")
    refused(tmp_path / "folder.png", photo(), "png")
    refused(tmp_path / ("x" * 300 + ".png"), photo(), "png")
    if Path("/proc").is_dir():
        refused(Path("/proc/nowhere/out.png"), photo(), "png")
    assert names(tmp_path) == ["file", "folder.png"]
    assert (tmp_path / "file").read_text() == "here already"


# Rounding


def test_eight_bits_round_and_clip() -> None:
    values = np.array([-1e9, -0.6, -0.4, 0.4, 0.6, 1.5, 2.5, 127.49, 127.51, 254.4, 254.6, 255.4, 300, 1e9], np.float32)
    assert to_integers(values, 8).tolist() == [0, 0, 0, 0, 1, 2, 2, 127, 128, 254, 255, 255, 255, 255]


@given(arrays.arrays(np.float32, (3, 4, 3), elements=st.floats(-1000, 1000, width=32)))
def test_eight_bits_are_the_nearest_byte(pixels: np.ndarray) -> None:
    written = to_integers(pixels, 8)
    assert written.dtype == np.uint8
    assert written.shape == pixels.shape
    assert np.abs(written - np.clip(pixels, 0, 255)).max() <= 0.5
