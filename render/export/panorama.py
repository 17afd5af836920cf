"""Photo Sphere metadata, by which viewers know a 360-degree panorama (namespace GPano of XMP). Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from render.export.print_layout import PrintLayout

#: Boundary mode of a picture whose left and right edges meet.
_AROUND = "wrap_x"


def panorama_properties(settings: Mapping[str, Any] | None, shape: tuple[int, int]) -> dict[str, str]:
    """Return the XMP properties of a whole equirectangular panorama; none for any other picture.

    A panorama that shows the whole sphere is twice as wide as high. A part of it, such as a panel, is no panorama.

    Args:
        settings: Settings of the picture.
        shape: (rows, columns) px of the picture.
    """
    boundary = (settings or {}).get("boundary")
    is_around = isinstance(boundary, Mapping) and boundary.get("mode") == _AROUND
    canvas = PrintLayout.from_settings(settings or {}).canvas
    rows, columns = shape
    if not is_around or columns != 2 * rows or canvas not in (None, shape):
        return {}
    return {
        "GPano:UsePanoramaViewer": "True",
        "GPano:ProjectionType": "equirectangular",
        "GPano:FullPanoWidthPixels": str(columns),
        "GPano:FullPanoHeightPixels": str(rows),
        "GPano:CroppedAreaImageWidthPixels": str(columns),
        "GPano:CroppedAreaImageHeightPixels": str(rows),
        "GPano:CroppedAreaLeftPixels": "0",
        "GPano:CroppedAreaTopPixels": "0",
    }
