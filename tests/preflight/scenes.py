"""Pixels of pictures that are hard to judge: soft, noisy, flat, patterned, enlarged, and plain photographs."""

from __future__ import annotations

import io
from pathlib import Path

import cv2
import numpy as np
import skimage.data
from PIL import Image, ImageDraw
from scipy.ndimage import convolve, gaussian_filter

from render.canvas.image import to_integers

LANCZOS, BICUBIC, BILINEAR, NEAREST = (
    Image.Resampling.LANCZOS, Image.Resampling.BICUBIC, Image.Resampling.BILINEAR, Image.Resampling.NEAREST,
)  # fmt: skip


def photograph(name: str) -> np.ndarray:
    """One of scikit-image's photographs, (rows, columns, 3) uint8."""
    directory = Path(skimage.data.__file__).parent
    (path,) = [directory / f"{name}{suffix}" for suffix in (".png", ".jpg") if (directory / f"{name}{suffix}").exists()]
    return np.asarray(Image.open(path).convert("RGB"))


def resized(pixels: np.ndarray, factor: float, kernel: Image.Resampling) -> np.ndarray:
    picture = Image.fromarray(pixels)
    return np.asarray(picture.resize((round(picture.width * factor), round(picture.height * factor)), kernel))


def coded(pixels: np.ndarray, quality: int) -> np.ndarray:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "JPEG", quality=quality)
    return np.asarray(Image.open(file))


def eight(pixels: np.ndarray) -> np.ndarray:
    return np.rint(np.clip(pixels, 0, 255)).astype(np.uint8)


def defocused(pixels: np.ndarray, radius: int) -> np.ndarray:
    """A photograph out of focus: every point is a disc."""
    y, x = np.mgrid[-radius : radius + 1, -radius : radius + 1]
    disc = (x**2 + y**2 <= radius**2).astype(float)
    return np.dstack([convolve(pixels[..., channel].astype(float), disc / disc.sum()) for channel in range(3)])


def noisy(pixels: np.ndarray, deviation: float, seed: int = 1) -> np.ndarray:
    return eight(pixels + np.random.default_rng(seed).normal(0, deviation, pixels.shape))


def stars() -> np.ndarray:
    """Stars on black, with a camera's noise cut off at black."""
    random = np.random.default_rng(5)
    sky = np.zeros((700, 900, 3))
    rows, columns = random.integers(0, 700, 900), random.integers(0, 900, 900)
    sky[rows, columns] = random.pareto(1.2, (900, 1)) * 900 * random.uniform(0.7, 1, (900, 3))
    return eight(gaussian_filter(sky, (1.1, 1.1, 0)) + random.normal(-1, 2, sky.shape))


def graphic(smooth: bool) -> np.ndarray:
    """Flat colours with letters, smoothed at edges or not."""
    scale = 4 if smooth else 1
    picture = Image.new("RGB", (900 * scale, 640 * scale), "white")
    draw = ImageDraw.Draw(picture)
    for index, colour in enumerate(("#ff5a00", "#0050ff", "#00a050", "#202020", "#ffd000", "#e8e8e8", "#dcdcdc")):
        left, top = 40 + 110 * index, 30 + 53 * index
        draw.ellipse([value * scale for value in (left, top, left + 190, top + 170)], fill=colour)
        draw.rectangle([value * scale for value in (left, top + 200, left + 77, top + 240)], fill=colour)
        draw.text((left * scale, (top + 250) * scale), "Flat graphics", fill="black", font_size=19 * scale)
    return np.asarray(picture.resize((900, 640), Image.Resampling.BOX) if smooth else picture)


def ramp(dither: bool) -> np.ndarray:
    """A sky: a slow gradient in two directions, of 8 bits."""
    rows, columns = np.mgrid[:600, :900]
    values = np.dstack([40 + rows * 0.14 + columns * 0.05, 70 + rows * 0.16, 120 + columns * 0.09 + rows * 0.03])
    random = np.random.default_rng(2)
    return eight(values + (random.uniform(-0.5, 0.5, values.shape) if dither else 0))


def posterised(pixels: np.ndarray, levels: int) -> np.ndarray:
    return eight(np.rint(pixels / 255 * (levels - 1)) / (levels - 1) * 255)


def portrait() -> np.ndarray:
    """Sharp in the middle, far out of focus around it."""
    sharp = photograph("astronaut").astype(float)
    rows, columns = np.mgrid[-1:1:512j, -1:1:512j]
    weight = np.clip(1.4 - 2.4 * np.hypot(rows, columns), 0, 1)[..., None]
    return eight(weight * sharp + (1 - weight) * gaussian_filter(sharp, (7, 7, 0)))


def detail() -> np.ndarray:
    """Single pixels: a checkerboard, lines of every distance, and noise."""
    pixels = np.full((420, 560), 255, np.uint8)
    rows, columns = np.mgrid[:420, :560]
    pixels[:140] = 255 * ((rows + columns)[:140] % 2)
    pixels[140:280] = 255 * ((columns[140:280] % (2 + columns[140:280] // 60)) > 0)
    pixels[280:] = np.random.default_rng(3).integers(0, 2, (140, 560)) * 255
    return np.dstack([pixels] * 3)


def mosaic(pixels: np.ndarray) -> np.ndarray:
    """A photograph of which a camera saw one colour a pixel, and interpolated the others."""
    seen = noisy(gaussian_filter(pixels.astype(float), (0.9, 0.9, 0)), 1.5)
    raw = seen[..., 1].copy()
    raw[::2, ::2], raw[1::2, 1::2] = seen[::2, ::2, 0], seen[1::2, 1::2, 2]
    return cv2.cvtColor(raw, cv2.COLOR_BayerBG2RGB)


def checkerboard() -> np.ndarray:
    fields = (np.indices((60, 80)).sum(axis=0) % 2 * 255).astype(np.uint8)
    return np.dstack([fields.repeat(8, 0).repeat(8, 1)] * 3)


def halftone() -> np.ndarray:
    """A photograph as dots of 6 px."""
    rows, columns = np.mgrid[:400, :600]
    screen = (np.cos(2 * np.pi * columns / 6) + np.cos(2 * np.pi * rows / 6)) / 4 + 0.5
    return np.dstack([eight(255 * (screen < photograph("coffee").mean(axis=2) / 255))] * 3)


def white_background() -> np.ndarray:
    """A thing on white paper with a soft shadow, as catalogues have it."""
    paper = np.full((600, 800, 3), 255.0)
    shadow = np.zeros((600, 800))
    shadow[330:420, 250:560] = 1
    paper -= 90 * gaussian_filter(shadow, 25)[..., None]
    paper[150:390, 280:520] = photograph("coffee")[80:320, 150:390]
    return eight(paper)


def overexposed() -> np.ndarray:
    return eight(photograph("coffee").astype(float) * 2.2)


def oversaturated() -> np.ndarray:
    pixels = photograph("coffee").astype(float)
    grey = pixels.mean(axis=2, keepdims=True)
    return eight(grey + 3.5 * (pixels - grey))


def small(name: str, rows: int = 120, columns: int = 160) -> np.ndarray:
    """The middle of a photograph, to be enlarged."""
    pixels = photograph(name)
    top, left = (pixels.shape[0] - rows) // 2, (pixels.shape[1] - columns) // 2
    return pixels[top : top + rows, left : left + columns]


def wide(pixels: np.ndarray) -> np.ndarray:
    """A photograph in 16 bits that fill them, as a camera's raw file develops."""
    random = np.random.default_rng(6)
    return to_integers((pixels + random.normal(0, 1, pixels.shape)).clip(0, 255).astype(np.float32), 16)


def enlarged_floats(factor: int) -> np.ndarray:
    """A photograph that was enlarged before it was rounded, to 16 bits."""
    source = small("coffee", 240, 320)
    size = (factor * source.shape[1], factor * source.shape[0])
    channels = [Image.fromarray(source[..., channel].astype(np.float32)).resize(size, BICUBIC) for channel in range(3)]
    return to_integers(np.dstack([np.asarray(channel) for channel in channels]).clip(0, 255), 16)
