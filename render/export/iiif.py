"""Tiles for IIIF viewers: a picture as a static IIIF Image API 3 service (level 0)."""

from __future__ import annotations

import json
from pathlib import Path

import pyvips

from render.canvas.image import CanvasImage
from render.export.picture import unwritable, write_tiles

#: Side of a tile, px, as viewers expect it.
_TILE = 512
#: Description of the service, which every viewer reads first.
_DESCRIPTION = "info.json"
#: Address of services that have none yet: that of `python -m http.server`.
_LOCAL_SERVER = "http://localhost:8000"


def write_iiif(picture: CanvasImage, directory: Path, name: str, quality: int) -> None:
    """Write JPEG tiles and their description into an empty directory.

    Args:
        picture: Image of 8 bits.
        directory: The directory.
        name: Its final name, for an address on this machine.
        quality: Quality of the tiles, 1 to 100.

    Raises:
        UserError: The tiles cannot be written.
        DamagedCheckpoint: The canvas cannot be read.
    """
    tiles = directory / "tiles"
    try:
        write_tiles(picture.image, tiles, "iiif3", quality, side=_TILE)
        picture.check()
        for path in tiles.iterdir():
            path.rename(directory / path.name)
        tiles.rmdir()
        # It holds the time of day, which would make pictures differ.
        (directory / "vips-properties.xml").unlink(missing_ok=True)
        set_address(directory, f"{_LOCAL_SERVER}/{name}")
    except (OSError, ValueError, pyvips.Error) as error:
        picture.check()
        raise unwritable(directory.parent / name, error, "iiif") from None


def set_address(directory: Path, address: str) -> None:
    """Set the address at which a directory of tiles will be found: viewers ask for tiles below it.

    Raises:
        OSError: The description cannot be read or written.
        ValueError: It is incomplete, as on a full disk.
    """
    path = directory / _DESCRIPTION
    description = json.loads(path.read_text(encoding="utf-8"))
    path.write_text(json.dumps({**description, "id": address}, indent=2) + "\n", encoding="utf-8")
