"""HTML page of a deep-zoom picture, from the template `viewer.html`; for files and servers."""

from __future__ import annotations

import html
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from render.config.formats import DREAM, SOURCE
from render.errors import UserError
from render.geometry.units import CM_PER_INCH
from render.pages import openseadragon
from render.pages.templates import fill, script_json
from render.pages.zoom_levels import Pyramid
from render.storage.local import replacing
from render.terminal.text import encoded

PAGE = "index.html"


@dataclass(frozen=True)
class ViewerFacts:
    """Facts about the picture of a page.

    `width` and `height` are those of the finished picture, px; `dpi` is its print resolution, None if it is not for
    print. `parameters` are the settings that made it, nested as in a config; `command` makes it again.
    """

    title: str
    width: int
    height: int
    dpi: float | None
    parameters: Mapping[str, Any]
    command: str

    def plain(self) -> dict[str, Any]:
        """Return the facts as JSON-compatible data for the page's script."""
        cm = None if self.dpi is None else [side / self.dpi * CM_PER_INCH for side in (self.width, self.height)]
        return {
            "title": self.title,
            "print": None if cm is None else {"width": cm[0], "height": cm[1], "dpi": f"{self.dpi:g}"},
            "parameters": [[key, setting_text(value)] for key, value in flat(self.parameters) if value is not None],
            "command": self.command,
            "package": openseadragon.PACKAGE,
        }


def write_viewer(directory: Path, facts: ViewerFacts) -> str | None:
    """Write the page and OpenSeadragon's script beside `dream.dzi` and perhaps `source.dzi`.

    Returns:
        None, or one line that says how to add the script if it is not available. The page is written anyway, and says
        the same.

    Raises:
        UserError: if there is no `dream.dzi`, or nothing can be written.
    """
    images = {stem: read_descriptor(directory, stem) for stem in (DREAM, SOURCE) if (directory / f"{stem}.dzi").exists()}
    if DREAM not in images:
        raise UserError(f"{directory} holds no {DREAM}.dzi for a viewer to show: export to it first")
    script_hint = None
    files: dict[str, bytes] = {}
    try:
        files |= openseadragon.load().files
    except UserError as error:
        script_hint = (
            f"the deep-zoom picture is whole, but its {PAGE} lacks OpenSeadragon ({error}): run `npm pack "
            f"{openseadragon.PACKAGE}` and put its build/openseadragon/{openseadragon.SCRIPT} beside {PAGE}"
        )
    files[PAGE] = encoded(page(facts, images))
    try:
        for name, content in files.items():
            with replacing(directory / name) as file:
                file.write(content)
    except OSError as error:
        raise UserError(f"{directory / PAGE} cannot be written ({error.strerror}): free some space") from None
    return script_hint


def page(facts: ViewerFacts, images: Mapping[str, Any], live: Mapping[str, Any] | None = None) -> str:
    """Return the HTML of the page.

    Text is escaped, and data is JSON without angle brackets, so `facts` cannot add markup or script.

    Args:
        facts: facts about the picture.
        images: a descriptor for `dream` and perhaps one for `source`.
        live: for a run that may still be going, the address to poll, the interval in ms, and the run's name in a shell.
    """
    data = {**facts.plain(), "images": dict(images), "live": live}
    values = {"title": html.escape(facts.title), "data": script_json(data), "script": openseadragon.SCRIPT}
    return fill(Path(__file__).with_name("viewer.html"), values)


def read_descriptor(directory: Path, stem: str) -> dict[str, Any]:
    """Read `stem`.dzi; return its descriptor, with the tiles' address relative to `directory`."""
    path = directory / f"{stem}.dzi"
    try:
        image = ElementTree.fromstring(path.read_bytes())
        size = image.find("{*}Size")
        if size is None:
            raise ValueError("it has no size")
        pyramid = Pyramid(
            int(size.attrib["Height"]),
            int(size.attrib["Width"]),
            int(image.attrib["TileSize"]),
            int(image.attrib["Overlap"]),
        )
        return pyramid.descriptor(f"{stem}_files/", image.attrib["Format"])
    except (OSError, ElementTree.ParseError, KeyError, ValueError) as error:
        raise UserError(f"{path} is no deep-zoom picture ({error}): export it again") from None


def flat(settings: Mapping[str, Any], prefix: str = "") -> list[tuple[str, Any]]:
    """Return nested settings as pairs (dotted key, value), in their order."""
    pairs: list[tuple[str, Any]] = []
    for key, value in settings.items():
        pairs += flat(value, f"{prefix}{key}.") if isinstance(value, Mapping) and value else [(f"{prefix}{key}", value)]
    return pairs


def setting_text(value: Any) -> str:
    """Return a setting's value as text, the way configs write it."""
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(setting_text, value)) + "]"
    if isinstance(value, float):
        return f"{value:.15g}"
    return str(value) if isinstance(value, str) else json.dumps(value, default=str)
