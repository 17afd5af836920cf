"""Layers that the benchmark of whole jobs can dream, and the least canvas. Imports nothing that its process times."""

from __future__ import annotations

#: Model of each layer.
LAYERS = {
    "mixed0": "inception_v3",
    "mixed4": "inception_v3",
    "mixed5": "inception_v3",
    "inception_3b": "googlenet",
    "inception_4c": "googlenet",
}
#: Least width of the canvas, px.
MIN_SIDE = 96
