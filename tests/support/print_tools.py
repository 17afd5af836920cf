"""Programs of Debian that read what print shops get: poppler's, built from other sources than any library here."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.support.debian_packages import NotInstalled, install

_PROGRAMS = ("pdfinfo", "pdfimages", "pdftoppm")
_MM_PER_POINT = 25.4 / 72


def poppler(program: str, *words: str | Path) -> str:
    """Return what a program of poppler prints; skip the test where there is none. It must not complain."""
    try:
        install(["poppler-utils"], _PROGRAMS)
    except NotInstalled as reason:
        pytest.skip(str(reason))
    done = subprocess.run([program, *map(str, words)], capture_output=True, text=True, timeout=120, check=False)
    assert (done.returncode, done.stderr) == (0, ""), (program, words, done.stderr)
    return done.stdout


def boxes_mm(path: Path, page: int = 1) -> dict[str, tuple[float, ...]]:
    """Return the boxes of a page as pdfinfo tells them: (left, bottom, right, top) mm by name."""
    text = poppler("pdfinfo", "-box", "-f", str(page), "-l", str(page), path)
    lines = re.findall(r"(\w+Box): +([-\d.]+) +([-\d.]+) +([-\d.]+) +([-\d.]+)", text)
    return {name: tuple(float(value) * _MM_PER_POINT for value in values) for name, *values in lines}


def page_picture(path: Path, dpi: float, page: int = 1) -> np.ndarray:
    """Return a page as pdftoppm draws it: (rows, columns, 3) uint8."""
    stem = path.with_suffix("")
    poppler("pdftoppm", "-r", f"{dpi:g}", "-f", str(page), "-l", str(page), "-singlefile", "-png", path, stem)
    with Image.open(stem.with_suffix(".png")) as picture:
        return np.asarray(picture.convert("RGB"))
