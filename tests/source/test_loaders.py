"""Which files are opened at all: four formats by content, nothing else of libvips; and that opening them can be stopped."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import pyvips
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from render.config.schema import SourceConfig
from render.errors import UserError
from render.export.metadata import read_settings
from render.job.materials import Library
from render.preflight.inspection import Request, inspect
from render.source.colour_space import ADOBE
from render.source.loaders import identify, open_stream
from render.source.mask import open_mask
from render.source.photo import read_photo, read_small
from render.source.source import open_source
from tests.conftest import INLINE, ROOT
from tests.source.test_source import p3_profile, photo, random_pixels
from tests.source.test_stated_colours import camera, chrm, cicp, gama

HOW = SourceConfig()
SVG = b"<svg xmlns='http://www.w3.org/2000/svg' width='60' height='40'><rect width='60' height='40' fill='red'/></svg>"
#: A drawing of blurs of blurs, which takes a minute and more to draw.
SLOW_SVG = (
    b"<?xml version='1.0'?><svg xmlns='http://www.w3.org/2000/svg' width='3000' height='3000'><filter id='f'>"
    + b"<feTurbulence baseFrequency='0.01' numOctaves='9'/><feGaussianBlur stdDeviation='90'/>" * 20
    + b"</filter>"
    + b"<rect width='3000' height='3000' filter='url(#f)'/>" * 30
    + b"</svg>"
)


def pillow(form: str) -> Callable[[Path], None]:
    return lambda path: Image.fromarray(photo()).save(path, format=form)


def content(*parts: bytes) -> Callable[[Path], None]:
    return lambda path: path.write_bytes(b"".join(parts)) and None


def native(path: Path) -> None:
    # Its name must end so to be written.
    pyvips.Image.black(20, 20, bands=3).vipssave(f"{path}.v")
    Path(f"{path}.v").rename(path)


FOREIGN: dict[str, tuple[Callable[[Path], None], str]] = {
    "gif": (pillow("GIF"), "a GIF"),
    "bmp": (pillow("BMP"), "a BMP"),
    "pdf": (pillow("PDF"), "a PDF"),
    "avif": (pillow("AVIF"), "an AVIF"),
    "jpeg 2000": (pillow("JPEG2000"), "a JPEG 2000"),
    "ico": (pillow("ICO"), "an icon"),
    "ppm": (pillow("PPM"), "begins like none"),
    "svg": (content(SVG), "an SVG"),
    "svg with a prologue": (content(b"\xef\xbb\xbf\n<?xml version='1.0'?>\n", SVG), "an SVG"),
    "xml": (content(b"<?xml version='1.0'?><a/>"), "an XML file"),
    "libvips": (native, "a libvips file"),
    "heif": (content(b"\0\0\0\x18ftypheic", bytes(400)), "a HEIF"),
    "photoshop": (content(b"8BPS\0\1", bytes(400)), "a PSD"),
    "jxl": (content(b"\xff\x0a", bytes(400)), "a JPEG XL"),
    "exr": (content(b"v/1\x01", bytes(400)), "an OpenEXR"),
    "csv": (content(b"1,2,3\n4,5,6\n"), "begins like none"),
    "matrix": (content(b"3 3\n1 2 3\n4 5 6\n7 8 9\n"), "begins like none"),
    "gzip": (content(b"\x1f\x8b\x08", bytes(400)), "a gzip file"),
}
#: Those that this program writes too, and finds its own settings in.
WITH_SETTINGS = ("pdf", "photoshop")


@pytest.mark.parametrize("suffix", ["png", "svg", "v"])
@pytest.mark.parametrize("name", FOREIGN)
def test_every_other_format_is_refused_by_its_content(name: str, suffix: str, tmp_path: Path) -> None:
    make, word = FOREIGN[name]
    make(tmp_path / "made")
    path = (tmp_path / "made").rename(tmp_path / f"picture.{suffix}")
    readers: list[Callable[[], Any]] = [
        lambda: open_source(str(path), 0, HOW),
        lambda: read_small(path, HOW, 100),
        lambda: open_mask(str(path), HOW, "mask"),
        lambda: inspect(Request(path)),
    ]
    for read in readers:
        with pytest.raises(UserError) as caught:
            read()
        message = str(caught.value)
        assert len(message.splitlines()) == 1
        assert word in message
        assert "PNG, JPEG, WebP or TIFF" in message
    if name in WITH_SETTINGS:
        assert read_settings(path) == {}
        return
    with pytest.raises(OSError, match="PNG, JPEG, WebP or TIFF"):
        read_settings(path)


@pytest.mark.parametrize(("form", "kind"), [("PNG", "png"), ("JPEG", "jpeg"), ("WEBP", "webp"), ("TIFF", "tiff")])
def test_the_four_formats_are_known_whatever_their_name(form: str, kind: str, tmp_path: Path) -> None:
    path = tmp_path / "picture[page=7].svg"
    Image.fromarray(photo()).save(path, format=form)
    assert identify(path) == kind
    assert open_stream(path).width == 30
    assert read_photo(path, HOW).shape == (40, 30, 3)


def test_libvips_has_no_other_loaders_in_our_processes(tmp_path: Path) -> None:
    """Not by a name, and not from memory."""
    native(tmp_path / "a.v")
    (tmp_path / "a.svg").write_bytes(SVG)
    Image.fromarray(photo()).save(tmp_path / "a.gif")
    (tmp_path / "a.csv").write_text("1,2\n3,4\n")
    for name in ("a.v", "a.svg", "a.gif", "a.csv"):
        with pytest.raises(pyvips.Error):
            pyvips.Image.new_from_file(str(tmp_path / name))
        with pytest.raises(pyvips.Error):
            pyvips.Image.new_from_buffer((tmp_path / name).read_bytes(), "")
    with pytest.raises(pyvips.Error):
        pyvips.Image.svgload(str(tmp_path / "a.svg"))


def test_a_phone_pictures_gain_map_changes_nothing(tmp_path: Path) -> None:
    """The plain picture is read from a JPEG that has more behind it."""
    Image.fromarray(photo()).save(tmp_path / "plain.jpg", quality=95)
    plain = (tmp_path / "plain.jpg").read_bytes()
    (tmp_path / "more.jpg").write_bytes(plain + plain)
    np.testing.assert_array_equal(read_photo(tmp_path / "more.jpg", HOW), read_photo(tmp_path / "plain.jpg", HOW))


@pytest.mark.parametrize("subcommand", ["plan", "render"])
def test_a_drawing_that_takes_long_is_refused_at_once(subcommand: str, command: Any, tmp_path: Path) -> None:
    (tmp_path / "slow.png").write_bytes(SLOW_SVG)
    assert len(SLOW_SVG) < 5000
    finished = command(subcommand, "image=slow.png", INLINE, timeout=60)
    finished.refused("slow.png", "an SVG drawing")


def test_ctrl_c_ends_a_plan_while_a_picture_is_decoded(tmp_path: Path) -> None:
    """Within moments: the main thread waits for the decoder, and does not decode."""
    script = f"""
import os, signal, threading, time
from pathlib import Path
from render.system import interrupts
from render.config.compose import load_config
from render.config.schema import SourceConfig
from render.source.source import open_source
interrupts.install(); interrupts.hold()
def stop():
    while not any(thread.name == "decoder" for thread in threading.enumerate()): time.sleep(0.01)
    time.sleep(0.2)
    os.kill(os.getpid(), signal.SIGINT)
threading.Thread(target=stop).start()
try:
    begun = time.monotonic()
    open_source({str(tmp_path / "photo.jpg")!r}, 0, SourceConfig())
    print("read", time.monotonic() - begun)
except KeyboardInterrupt:
    print("stopped")
"""
    Image.fromarray(random_pixels(4000, 7000, 3)).save(tmp_path / "photo.jpg", quality=98, progressive=True)
    begun = time.monotonic()
    words = [sys.executable, "-c", script]
    result = subprocess.run(words, env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True, timeout=60)
    assert (result.stdout, result.stderr) == ("stopped\n", "")
    assert time.monotonic() - begun < 30
    assert result.returncode != -signal.SIGSEGV


MAGICS = [b"", b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"RIFF\0\0\0\0WEBP", b"II*\0", b"MM\0+"]


@given(st.binary(max_size=64), st.sampled_from(MAGICS))
def test_whatever_a_file_begins_with_it_is_read_or_refused(
    tmp_path_factory: pytest.TempPathFactory, rest: bytes, magic: bytes
) -> None:
    path = tmp_path_factory.getbasetemp() / "anything"
    path.write_bytes(magic + rest)
    for read in (lambda: read_photo(path, HOW), lambda: open_mask(str(path), HOW, "mask"), lambda: inspect(Request(path))):
        with pytest.raises(UserError) as caught:
            read()
        assert len(str(caught.value).splitlines()) == 1


# Numbers in files


def vector_of(path: str | Path) -> Any:
    return Library("inception_v3", SourceConfig()).vector(str(path))


def test_a_direction_is_read_whole(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.arange(256.0))
    assert vector_of(tmp_path / "a.npy") == tuple(range(256))


@pytest.mark.parametrize("name", ["/dev/zero", "pipe.npy", "."])
def test_a_direction_without_end_is_refused_and_not_waited_for(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    os.mkfifo("pipe.npy")
    with pytest.raises(UserError, match="not a file"):
        vector_of(name)


@pytest.mark.parametrize("shape", [(10**15,), (10**9, 10**9, 10**9), (1000,)])
@pytest.mark.parametrize("version", [(1, 0), (2, 0)])
def test_a_direction_that_states_more_than_it_holds_is_refused(
    shape: tuple[int, ...], version: tuple[int, int], tmp_path: Path
) -> None:
    with (tmp_path / "a.npy").open("wb") as file:
        np.lib.format.write_array(file, np.zeros(8), version)
    content = (tmp_path / "a.npy").read_bytes()
    old = content.index(b"(8,)")
    stated = str(shape).encode()
    # The header's padding takes up what is longer.
    changed = content[:old] + stated + content[old + 4 :].replace(b" " * (len(stated) - 4), b"", 1)
    assert len(changed) == len(content)
    (tmp_path / "a.npy").write_bytes(changed)
    with pytest.raises(UserError, match="is shorter"):
        vector_of(tmp_path / "a.npy")


# Altered files


def made_of_everything(path: Path, form: str) -> None:
    """A small picture with a profile, EXIF and XMP."""
    exif = camera(2, "R03")
    lossless = {"JPEG": {"quality": 90}, "WEBP": {"lossless": True}}.get(form, {})
    Image.fromarray(photo()).save(path, form, exif=exif, icc_profile=p3_profile(), **lossless)
    if form == "PNG":
        content = path.read_bytes()
        path.write_bytes(content[:33] + cicp(12, 13) + gama(1.8) + chrm(ADOBE) + content[33:])


@given(st.data())
@settings(max_examples=100)
def test_no_altered_picture_breaks_a_reader(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    """Any bytes changed, and the file cut anywhere: read, or refused in one line."""
    form = data.draw(st.sampled_from(["PNG", "JPEG", "WEBP", "TIFF"]))
    original, path = (tmp_path_factory.getbasetemp() / f"{name}.{form}" for name in ("everything", "altered"))
    if not original.exists():
        made_of_everything(original, form)
    content = bytearray(original.read_bytes())
    for _ in range(data.draw(st.integers(1, 6))):
        content[data.draw(st.integers(0, min(2000, len(content) - 1)))] = data.draw(st.integers(0, 255))
    path.write_bytes(content[: data.draw(st.integers(0, len(content))) if data.draw(st.booleans()) else None])
    small = SourceConfig(max_megapixels=1)
    for read in (
        lambda: read_photo(path, small),
        lambda: open_mask(str(path), small, "mask"),
        lambda: read_small(path, small, 100),
    ):
        try:
            read()
        except UserError as error:
            assert len(str(error).splitlines()) == 1
    with suppress(OSError):
        read_settings(path)


def test_a_text_of_libvips_with_any_bytes_is_a_text(capfd: pytest.CaptureFixture[str]) -> None:
    """It quotes bytes of damaged files in warnings; a callback that fails prints a traceback."""
    quoted = pyvips.ffi.new("char[]", b"unknown field \x9c\xff")
    assert pyvips._to_string(quoted) == "unknown field \ufffd\ufffd"
    pyvips._log_handler_callback(pyvips.ffi.new("char[]", b"VIPS"), 1 << 4, quoted, pyvips.ffi.NULL)
    assert pyvips._to_string(pyvips.ffi.NULL) == "NULL"
    assert "Traceback" not in capfd.readouterr().err
