"""Exports a canvas of a gigapixel and prints speed and memory, beside libvips' own speed on the same pixels.

    python -m tests.reports.export [megapixels=1000] [formats=bigtiff,dzi] [bits=8] [compression=lzw] [pairs=1] [keep=DIR]

The canvas is synthetic: a photo, repeated. libvips reads it from an uncompressed file; each format is written in turn by
the program, from the canvas' store, and by libvips alone. Every export runs in a process of its own, whose anonymous memory
(RssAnon) is watched. What is not compressed by LZW, which tifffile leaves to another package, is read back by tifffile.
"""

from __future__ import annotations

import json
import math
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import numpy as np
import pyvips
import tifffile

from render.canvas import store as stores
from render.canvas.image import canvas_image, to_integers
from render.canvas.store import CanvasStore
from render.config.schema import SourceConfig
from render.dreaming.resample import resample_array
from render.export.export import Style, export
from render.export.picture import Encoding
from render.geometry.geometry import Interval, Rect
from render.source.source import read_photo, sample_path
from tests.conftest import ROOT

_SIDE = 2048


def make_canvas(path: Path, megapixels: float) -> CanvasStore:
    """A canvas of eight by five, filled with a photo again and again."""
    width = math.ceil(math.sqrt(megapixels * 1e6 * 1.6))
    height = math.ceil(megapixels * 1e6 / width)
    stores.create(path, (height, width), "token")
    canvas = CanvasStore(path, mode="r+")
    photo = np.clip(resample_array(read_photo(sample_path("hubble"), SourceConfig()), (_SIDE, _SIDE)), 0, 255)
    wide = np.tile(photo, (1, -(-width // _SIDE), 1))[:, :width]
    for rect in canvas.rect.bands(_SIDE * width, _SIDE):
        canvas.write(rect, wide[: rect.rows.size])
    return canvas


def by_libvips(raw: Path, canvas: CanvasStore, out: Path, form: str, bits: int, compression: str) -> None:
    """The same export by libvips alone, with the same options."""
    height, width = canvas.shape
    kind = "uchar" if bits == 8 else "ushort"
    interpretation = "srgb" if bits == 8 else "rgb16"
    image = pyvips.Image.rawload(
        str(raw), width, height, 3, format=kind, interpretation=interpretation, access="sequential"
    )
    if form == "dzi":
        image.dzsave(str(out), layout="dz", suffix=".jpg[Q=92,subsample-mode=off]", tile_size=254, overlap=1, keep="none")
    elif form == "bigtiff":
        image.tiffsave(
            str(out), compression=compression, predictor="none" if compression in ("none", "jpeg") else "horizontal",
            tile=True, tile_width=256, tile_height=256, pyramid=True, bigtiff=True,
        )  # fmt: skip
    else:
        raise SystemExit(f"there is no pair for {form}: choose bigtiff or dzi")


def one(words: dict[str, str]) -> None:
    """One export, in this process; prints seconds and the peak of anonymous memory as JSON."""
    peak = 0

    def watch() -> None:
        nonlocal peak
        while True:
            text = Path("/proc/self/status").read_text()
            peak = max(peak, 1024 * int(text.split("RssAnon:")[1].split()[0]))
            time.sleep(0.05)

    threading.Thread(target=watch, daemon=True).start()
    canvas, out, form, bits = CanvasStore(Path(words["canvas"])), Path(words["out"]), words["form"], int(words["bits"])
    begun = time.perf_counter()
    if words["who"] == "libvips":
        by_libvips(Path(words["raw"]), canvas, out, form, bits, words["compression"])
    else:
        export(canvas, out, form, Style(bits, encoding=Encoding(compression=words["compression"])))
    print(json.dumps({"seconds": time.perf_counter() - begun, "peak": peak}))


def read_back(path: Path, canvas: CanvasStore, bits: int) -> str:
    """What tifffile finds in a BigTIFF: its size, its levels, and whether tiles from first to last are the canvas'."""
    with tifffile.TiffFile(path) as file:
        page = file.pages[0]
        down, across = (-(-side // tile) for side, tile in zip(page.shape, (page.tilelength, page.tilewidth), strict=False))
        for row, column in {(0, 0), (0, across - 1), (down // 2, across // 2), (down - 1, 0), (down - 1, across - 1)}:
            number = row * across + column
            file.filehandle.seek(page.dataoffsets[number])
            raw = file.filehandle.read(page.databytecounts[number])
            tile, _, _ = page.decode(raw, number)
            top, left = row * page.tilelength, column * page.tilewidth
            seen = canvas.rect.intersect(Rect(Interval(top, top + page.tilelength), Interval(left, left + page.tilewidth)))
            got = np.squeeze(tile)[: seen.rows.size, : seen.columns.size]
            np.testing.assert_array_equal(got, to_integers(canvas.read(seen), bits))
        kind = "BigTIFF" if file.is_bigtiff else "classic TIFF"
        return f"{kind} of {path.stat().st_size / 2**30:.2f} GiB, {len(file.pages)} levels, five tiles as in the canvas"


def size_of(path: Path) -> int:
    """Bytes of a file or of all files in a directory."""
    return sum(one.stat().st_size for one in [path, *path.rglob("*")] if one.is_file())


def main() -> None:
    """Makes the canvas, exports it by both in turn, and prints a table."""
    settings = {"megapixels": "1000", "formats": "bigtiff,dzi", "bits": "8", "compression": "lzw", "pairs": "1"}
    settings |= dict(word.split("=", 1) for word in sys.argv[1:])
    if "who" in settings:
        one(settings)
        return
    with tempfile.TemporaryDirectory(dir=settings.get("keep", ROOT.parent), prefix="export-") as directory:
        place = Path(directory)
        canvas = make_canvas(place / "canvas", float(settings["megapixels"]))
        height, width = canvas.shape
        megapixels = width * height / 1e6
        with canvas_image(canvas, int(settings["bits"])) as made:
            made.image.rawsave(str(place / "raw"))
        print(f"canvas {width} x {height} px, {megapixels:.0f} megapixels, {settings['bits']} bits")
        for form in settings["formats"].split(","):
            rates: dict[str, list[float]] = {"program": [], "libvips": []}
            peaks = dict.fromkeys(rates, 0)
            size = 0
            for _ in range(int(settings["pairs"])):
                for who, measured in rates.items():
                    out = place / "out"
                    words = {"canvas": place / "canvas", "raw": place / "raw", "out": out, "form": form, "who": who}
                    words |= {name: settings[name] for name in ("bits", "compression")}
                    command = [sys.executable, "-m", "tests.reports.export", *(f"{k}={v}" for k, v in words.items())]
                    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
                    result = json.loads(done.stdout.splitlines()[-1])
                    measured.append(megapixels / result["seconds"])
                    peaks[who] = max(peaks[who], result["peak"])
                    if who == "program" and form == "bigtiff" and settings["compression"] != "lzw":
                        print(f"tifffile reads {read_back(out, canvas, int(settings['bits']))}", flush=True)
                    for made in place.glob("out*"):
                        size = size_of(made) if who == "program" else size
                        shutil.rmtree(made) if made.is_dir() else made.unlink()
            program, alone = (statistics.median(rates[who]) for who in ("program", "libvips"))
            print(
                f"{form:8} program {program:6.1f} Mpx/s, peak {peaks['program'] / 1e9:.2f} GB;  libvips alone {alone:6.1f} "
                f"Mpx/s, peak {peaks['libvips'] / 1e9:.2f} GB;  ratio {program / alone:.2f};  {size / 1e9:.2f} GB written",
                flush=True,
            )


if __name__ == "__main__":
    main()
