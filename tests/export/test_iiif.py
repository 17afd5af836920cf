"""IIIF tiles: everything that a viewer asks for by the description is there, and is the picture."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
from PIL import Image

from render.canvas.store import CanvasStore
from render.export.export import Style, export
from render.export.picture import Encoding
from render.storage.markers import MARKER
from tests.conftest import TINY
from tests.export.test_export import SHAPE, smooth, stored


def requested_tiles(description: dict) -> list[tuple[int, str, tuple[int, int, int, int], tuple[int, int]]]:
    """The tiles that a viewer asks for: factor, path, region (x, y, width, height) and size (width, height).

    As in the IIIF Image API 3.0, appendix on tiled viewers, with canonical sizes `w,h`.
    """
    (tiles,) = description["tiles"]
    side, width, height = tiles["width"], description["width"], description["height"]
    requests = []
    for factor in tiles["scaleFactors"]:
        span = side * factor
        for y in range(0, height, span):
            for x in range(0, width, span):
                region = (x, y, min(span, width - x), min(span, height - y))
                size = tuple(math.ceil(length / factor) for length in region[2:])
                is_whole = region == (0, 0, width, height)
                name = "full" if is_whole else ",".join(map(str, region))
                requests.append((factor, f"{name}/{size[0]},{size[1]}/0/default.jpg", region, size))
    return requests


def test_every_tile_that_the_description_promises_is_there(tmp_path: Path) -> None:
    pixels = smooth(SHAPE)
    canvas: CanvasStore = stored(tmp_path / "canvas", pixels)
    export(canvas, tmp_path / "dream-iiif", "iiif", Style(encoding=Encoding(quality=98)))
    description = json.loads((tmp_path / "dream-iiif" / "info.json").read_text())
    assert description["type"] == "ImageService3"
    assert description["profile"] == "level0"
    assert (description["height"], description["width"]) == SHAPE
    assert description["id"] == "http://localhost:8000/dream-iiif"
    full = np.zeros((*SHAPE, 3))
    for factor, name, (x, y, width, height), size in requested_tiles(description):
        with Image.open(tmp_path / "dream-iiif" / name) as tile:
            assert tile.size == size, name
            if factor == 1:
                full[y : y + height, x : x + width] = np.asarray(tile)
    assert np.abs(full - pixels).mean() < 1
    assert not list((tmp_path / "dream-iiif").rglob("vips-properties.xml"))


def test_tiles_have_the_address_that_was_typed(command, tmp_path: Path) -> None:
    words = ("output.also=[iiif]", "output.iiif_id=https://example.org/iiif/cat")
    result = command(*TINY, "output.dir=run", *words)
    assert result.code == 0, result.err
    assert result.out.strip().splitlines()[-1] == "run/preview-iiif"
    assert json.loads((tmp_path / "run" / "preview-iiif" / "info.json").read_text())["id"] == words[1].partition("=")[2]
    assert command("export", "run=run", "output.path=web/cat.iiif").code == 0
    assert json.loads((tmp_path / "web" / "cat.iiif" / "info.json").read_text())["id"] == words[1].partition("=")[2]
    assert (tmp_path / "web" / "cat.iiif" / MARKER).exists()
    # Unchanged it is replaced when asked, but not with anything of the user's in it.
    again = ("export", "run=run", "output.path=web/cat.iiif", "output.quality=50")
    command(*again).refused("cat.iiif", "overwrite=true")
    assert command(*again, "overwrite=true").code == 0
    (tmp_path / "web" / "cat.iiif" / "mine.txt").write_text("precious")
    command(*again, "overwrite=true").refused("mine.txt", "never replaced")
    # Tiles carry no profile, so they are in sRGB, whatever the pictures beside them are in.
    tiles = {path.name: path.read_bytes() for path in (tmp_path / "run" / "preview-iiif").rglob("*.jpg")}
    assert command("export", "run=run", "output.format=iiif", "output.profile=cmyk").code == 0
    assert tiles == {path.name: path.read_bytes() for path in (tmp_path / "run" / "preview-iiif").rglob("*.jpg")}
