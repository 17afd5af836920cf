"""Files that print shops take and files that they send back, made by script: the measure of every threshold."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyvips
from PIL import Image
from PIL.ImageFilter import UnsharpMask
from scipy.ndimage import gaussian_filter

from render.canvas.image import to_integers
from render.export.metadata import srgb_profile
from tests.preflight.scenes import (
    BICUBIC,
    BILINEAR,
    LANCZOS,
    NEAREST,
    checkerboard,
    coded,
    defocused,
    detail,
    eight,
    enlarged_floats,
    graphic,
    halftone,
    mosaic,
    noisy,
    overexposed,
    oversaturated,
    photograph,
    portrait,
    posterised,
    ramp,
    resized,
    small,
    stars,
    white_background,
    wide,
)

DPI = 300


@dataclass(frozen=True)
class Sample:
    """A file: how it is written, the words that order it, and the kinds of its faults; none in a good one."""

    write: Callable[[Path], None]
    suffix: str
    words: tuple[str, ...] = ()
    faults: frozenset[str] = frozenset()


def cmyk(pixels: np.ndarray) -> pyvips.Image:
    """The picture in libvips' CMYK, with its profile."""
    picture = pyvips.Image.new_from_array(pixels).copy(interpretation="srgb")
    return picture.icc_transform("cmyk", input_profile="srgb", intent="relative", black_point_compensation=True)


def inks(rows: int, columns: int, *percent: float) -> np.ndarray:
    """A gradient of all tones with a field of the inks, percent, in its middle."""
    gradient = np.linspace(5, 120, columns)[None, :, None] + np.random.default_rng(4).normal(0, 3, (rows, columns, 4))
    pixels = np.clip(gradient * [0.5, 0.6, 0.6, 0.2], 0, 255)
    pixels[rows // 4 : rows // 2, columns // 4 : columns // 2] = np.array(percent) * 2.55
    return eight(pixels)


def press_profile() -> bytes:
    return pyvips.Image.profile_load("cmyk")


def of_class(letters: bytes) -> bytes:
    """sRGB's profile with another device class."""
    profile = bytearray(srgb_profile())
    profile[12:16] = letters
    return bytes(profile)


def vips(pixels: np.ndarray, dpi: float | None = DPI, icc: bytes | None = None) -> pyvips.Image:
    """The pixels as an image of libvips, with an ICC profile and a resolution."""
    picture = pyvips.Image.new_from_array(pixels)
    kind = {1: "b-w", 3: "srgb", 4: "cmyk"}[picture.bands]
    if pixels.dtype == np.uint16:
        kind = {1: "grey16", 3: "rgb16", 4: "cmyk"}[picture.bands]
    dots = (dpi or 25.4) / 25.4
    picture = picture.copy(interpretation=kind, xres=dots, yres=dots)
    profile = icc or (press_profile() if picture.bands == 4 else srgb_profile())
    picture.set_type(pyvips.GValue.blob_type, "icc-profile-data", profile)
    return picture


def file(
    pixels: Callable[[], np.ndarray | pyvips.Image], suffix: str = ".png", *, words: tuple[str, ...] = (),
    faults: str = "", icc: bytes | None = None, dpi: float | None = DPI, **options: object,
) -> Sample:  # fmt: skip
    """A sample that libvips writes with options of its writer."""

    def write(path: Path) -> None:
        content = pixels()
        if isinstance(content, pyvips.Image):
            picture = content.copy(xres=(dpi or 25.4) / 25.4, yres=(dpi or 25.4) / 25.4)
        else:
            picture = vips(content, dpi, icc)
        picture.write_to_file(str(path), **options)

    return Sample(write, suffix, words, frozenset(faults.split()))


def by_pillow(pixels: Callable[[], np.ndarray], suffix: str, faults: str = "", **options: object) -> Sample:
    """A sample that Pillow writes."""

    def write(path: Path) -> None:
        Image.fromarray(pixels()).save(path, dpi=(DPI, DPI), **options)

    return Sample(write, suffix, (), frozenset(faults.split()))


FOGRA = ("spec.colour=cmyk", "spec.tac=300")
GOOD: dict[str, Sample] = {
    "photograph": file(lambda: photograph("astronaut")),
    "cat": file(lambda: photograph("chelsea"), ".jpg", Q=90),
    "coffee": file(lambda: photograph("coffee"), ".tif", compression="lzw"),
    "rocket": file(lambda: photograph("rocket"), ".jpg", Q=85),
    "jpeg-of-75": file(lambda: photograph("coffee"), ".jpg", Q=75),
    "retina": file(lambda: photograph("retina"), ".tif", compression="deflate", tile=True, pyramid=True, bigtiff=True),
    "motorcycle": file(lambda: photograph("motorcycle_left"), ".webp", lossless=True),
    "nebulae": file(lambda: photograph("hubble_deep_field"), ".tif"),
    "tissue": file(lambda: photograph("ihc")),
    "bricks": file(lambda: photograph("brick")),
    "grass": file(lambda: photograph("grass")),
    "gravel": file(lambda: photograph("gravel"), ".jpg", Q=92),
    "black-and-white": by_pillow(lambda: photograph("camera")[..., 0], ".tif", icc_profile=srgb_profile()),
    "line-art": by_pillow(
        lambda: (photograph("page")[..., 0] > 128) * np.uint8(255), ".tif", icc_profile=srgb_profile()
    ),
    "page": file(lambda: photograph("page")),
    "text": file(lambda: photograph("text")),
    "stars": file(stars),
    "noise": file(lambda: np.random.default_rng(1).integers(0, 256, (400, 500, 3), dtype=np.uint8)),
    "film-grain": file(lambda: noisy(np.full((400, 500, 3), 120), 20)),
    "graphic": file(lambda: graphic(smooth=True)),
    "graphic-of-pixels": file(lambda: graphic(smooth=False)),
    "ramp-dithered": file(lambda: ramp(dither=True)),
    "ramp": file(lambda: ramp(dither=False)),
    "ramp-of-16-bits": file(
        lambda: to_integers(np.dstack([np.linspace(20, 220, 900)[None].repeat(400, 0)] * 3).astype(np.float32), 16), ".tif"
    ),
    "pixel-detail": file(detail),
    "soft": file(lambda: noisy(gaussian_filter(photograph("astronaut").astype(float), (3, 3, 0)), 1.5)),
    "soft-without-noise": file(lambda: eight(gaussian_filter(photograph("coffee").astype(float), (2.5, 2.5, 0)))),
    "soft-jpeg": file(lambda: eight(gaussian_filter(photograph("coffee").astype(float), (2, 2, 0))), ".jpg", Q=85),
    "out-of-focus": file(lambda: noisy(defocused(photograph("chelsea"), 5), 1)),
    "out-of-focus-jpeg": file(lambda: eight(defocused(photograph("astronaut"), 4)), ".jpg", Q=90),
    "portrait": file(portrait, ".jpg", Q=92),
    "half-size": file(lambda: resized(photograph("retina"), 0.5, LANCZOS)),
    "turned-by-7-degrees": file(
        lambda: np.asarray(Image.fromarray(photograph("coffee")).rotate(7, Image.Resampling.BICUBIC))[60:340, 60:540]
    ),
    "more-contrast": file(lambda: eight((photograph("coffee").astype(float) - 60) * 1.4 + 60).clip(4, 251)),
    "white-background": file(white_background, ".jpg", Q=92),
    "of-16-bits": file(lambda: wide(photograph("coffee")), ".tif", compression="deflate"),
    "camera-mosaic": file(lambda: mosaic(photograph("hubble_deep_field"))),
    "halftone": file(halftone),
    "checkerboard": file(checkerboard),
    "pattern": file(lambda: np.tile(photograph("coffee")[:200, :256], (3, 3, 1))),
    "mirrored": file(lambda: np.concatenate([photograph("chelsea"), photograph("chelsea")[:, ::-1]], axis=1)),
    "tiny": file(lambda: photograph("chelsea")[100:148, 100:164]),
    "panorama": file(lambda: photograph("retina")[600:760]),
    "cmyk": file(lambda: cmyk(photograph("coffee")), ".tif", words=FOGRA),
    "cmyk-jpeg": file(lambda: cmyk(photograph("chelsea")), ".jpg", words=FOGRA, Q=92),
    "cmyk-to-the-limit": file(lambda: inks(400, 500, 75, 70, 70, 85), ".tif", words=FOGRA),
    "as-ordered": file(
        lambda: resized(photograph("retina")[:1000, :1400], 1, LANCZOS), ".jpg", Q=92, dpi=200,
        words=("spec=photolab-srgb", "spec.width_cm=17.18", "spec.height_cm=12.1", "spec.bleed_mm=3"),
    ),
    "on-its-side": file(
        lambda: photograph("retina")[:1000, :1400], ".jpg", Q=92, dpi=200,
        words=("spec=photolab-srgb", "spec.width_cm=12.7", "spec.height_cm=17.78"),
    ),
    "enlarged-but-fine-enough": file(
        lambda: resized(small("coffee", 240, 320), 2, LANCZOS), dpi=600, words=("spec.dpi=300",)
    ),
    "for-the-screen": file(lambda: photograph("chelsea"), ".webp", dpi=None, words=("spec=screen-srgb",), Q=90),
}  # fmt: skip


def enlargement(factor: float, kernel: Image.Resampling, name: str = "coffee", **options: object) -> Sample:
    side = 120 if factor > 6 else 240
    suffix = str(options.pop("suffix", ".png"))
    return file(lambda: resized(small(name, side, side * 4 // 3), factor, kernel), suffix, faults="enlarged", **options)


BAD: dict[str, Sample] = {
    # As scikit-image has it, each of its pixels is there twice.
    "moon": file(lambda: photograph("moon"), ".tif", faults="enlarged"),
    **{
        f"{kernel.name.lower()}-{factor:g}x": enlargement(factor, kernel)
        for factor in (13, 4, 2)
        for kernel in (NEAREST, BILINEAR, BICUBIC, LANCZOS)
    },
    "cat-lanczos-13x": enlargement(13, LANCZOS, "chelsea"),
    "astronaut-bicubic-2.5x": enlargement(2.5, BICUBIC, "astronaut"),
    "rocket-bilinear-3.3x": enlargement(3.3, BILINEAR, "rocket"),
    "gravel-lanczos-2x": enlargement(2, LANCZOS, "gravel"),
    "retina-bicubic-3x": file(lambda: resized(photograph("retina")[:300, :400], 3, BICUBIC), faults="enlarged"),
    "enlarged-twice": file(lambda: resized(resized(small("coffee", 240, 320), 2, BICUBIC), 2, BICUBIC), faults="enlarged"),
    "enlarged-and-sharpened": file(
        lambda: np.asarray(Image.fromarray(resized(small("coffee", 240, 320), 4, LANCZOS)).filter(UnsharpMask(2, 150, 2))),
        faults="enlarged",
    ),
    "enlarged-with-a-border": file(
        lambda: np.pad(resized(small("chelsea", 240, 320), 3, BICUBIC), ((90, 90), (90, 90), (0, 0)), constant_values=255),
        faults="enlarged",
    ),
    "enlarged-jpeg-of-80": enlargement(2, BICUBIC, suffix=".jpg", Q=80),
    "nearest-3.7x": enlargement(3.7, NEAREST, "rocket"),
    "vips-3x": file(lambda: pyvips.Image.new_from_array(small("coffee", 240, 320)).resize(3).numpy(), faults="enlarged"),
    "enlarged-and-cut": file(
        lambda: resized(photograph("coffee"), 3, BICUBIC)[101:902, 207:1309], ".tif", faults="enlarged"
    ),
    "enlarged-jpeg": enlargement(4, BICUBIC, suffix=".jpg", Q=90),
    "enlarged-nearest-jpeg": enlargement(13, NEAREST, suffix=".jpg", Q=90),
    "enlarged-in-16-bits": file(lambda: enlarged_floats(4), ".tif", faults="enlarged"),
    "posterised-sky": file(lambda: posterised(ramp(dither=False).astype(float), 32), faults="posterised"),
    "posterised-sky-of-16-levels": file(lambda: posterised(ramp(dither=False).astype(float), 16), faults="posterised"),
    "8-bits-in-16": file(lambda: photograph("coffee").astype(np.uint16) * 257, ".tif", faults="bits"),
    "8-bits-shifted-to-16": file(lambda: photograph("chelsea").astype(np.uint16) << 8, ".tif", faults="bits"),
    "8-bits-in-a-png-of-16": file(lambda: photograph("rocket").astype(np.uint16) * 257, faults="bits"),
    "jpeg-of-20": file(lambda: photograph("coffee"), ".jpg", Q=20, faults="jpeg"),
    "jpeg-of-50": file(lambda: photograph("astronaut"), ".jpg", Q=50, faults="jpeg"),
    "jpeg-of-20-in-a-tiff": file(lambda: photograph("coffee"), ".tif", compression="jpeg", Q=20, faults="jpeg"),
    "jpeg-of-20-saved-as-png": file(lambda: coded(photograph("coffee"), 20), faults="jpeg"),
    "jpeg-of-10-saved-as-tiff": file(lambda: coded(photograph("astronaut"), 10), ".tif", faults="jpeg"),
    "jpeg-of-20-saved-as-jpeg-of-95": file(lambda: coded(photograph("rocket"), 20), ".jpg", Q=95, faults="jpeg"),
    "400-percent-of-ink": file(lambda: inks(400, 500, 100, 100, 100, 100), ".tif", faults="ink"),
    "330-percent-for-300": file(lambda: inks(400, 500, 85, 80, 80, 85), ".tif", words=FOGRA, faults="ink"),
    "400-percent-in-16-bits": file(
        lambda: inks(400, 500, 100, 100, 100, 100).astype(np.uint16) * 256 + 128, ".tif", faults="ink bits"
    ),
    "cmyk-with-srgb": file(lambda: inks(400, 500, 40, 40, 40, 10), ".tif", icc=srgb_profile(), faults="profile"),
    "rgb-with-cmyk": file(lambda: photograph("coffee"), ".tif", icc=press_profile(), faults="profile"),
    "rgb-with-cmyk-jpeg": file(lambda: photograph("coffee"), ".jpg", icc=press_profile(), Q=90, faults="profile"),
    "input-profile": file(lambda: photograph("coffee"), ".tif", icc=of_class(b"scnr"), faults="profile"),
    "device-link": file(lambda: photograph("coffee"), ".tif", icc=of_class(b"link"), faults="profile"),
    "named-colour": file(lambda: photograph("coffee"), ".tif", icc=of_class(b"nmcl"), faults="profile"),
    "no-profile": by_pillow(lambda: photograph("coffee"), ".png", "profile"),
    "no-resolution": file(lambda: photograph("coffee"), ".tif", dpi=None, faults="resolution"),
    "72-dpi": file(lambda: photograph("coffee"), dpi=72, faults="resolution"),
    "overexposed": file(overexposed, faults="clipped"),
    "oversaturated": file(oversaturated, faults="clipped"),
    "transparent": by_pillow(
        lambda: np.dstack([photograph("coffee"), np.full((400, 600), 99, np.uint8)]), ".png", "transparency",
        icc_profile=srgb_profile(),
    ),
    "rgb-for-cmyk": file(lambda: photograph("coffee"), ".tif", words=("spec=fogra39-tac300",), faults="colour"),
    "cmyk-for-rgb": file(lambda: cmyk(photograph("coffee")), ".jpg", words=("spec.colour=rgb",), Q=92, faults="colour"),
    "other-press": file(
        lambda: cmyk(photograph("coffee")), ".tif", words=("spec=newsprint-tac240", "spec.black=any", "spec.tac=400"),
        faults="profile",
    ),
    "too-small": file(
        lambda: photograph("coffee"), ".tif", words=("spec.width_cm=60", "spec.height_cm=40", "spec.dpi=150"),
        faults="resolution size",
    ),
    "without-bleed": file(
        lambda: photograph("coffee"), ".tif",
        words=("spec.width_cm=5.08", "spec.height_cm=3.387", "spec.bleed_mm=3", "spec.dpi=200"), faults="size",
    ),
    "other-shape": file(
        lambda: photograph("astronaut"), ".tif", words=("spec.width_cm=5", "spec.height_cm=4"), faults="size",
    ),
    "interlaced": file(lambda: photograph("coffee"), interlace=True, words=("spec=photolab-srgb",), faults="interlaced"),
    "progressive": file(
        lambda: photograph("coffee"), ".jpg", interlace=True, Q=90, words=("spec=photolab-srgb",), faults="interlaced"
    ),
    "black-of-four-inks": file(
        lambda: inks(400, 500, 60, 50, 50, 100), ".tif", words=("spec.black=k", "spec.tac=300"), faults="black"
    ),
    "16-bits-for-8": file(lambda: wide(photograph("coffee")), ".tif", words=("spec.bits=8",), faults="bits"),
    "tiff-for-jpeg": file(lambda: photograph("coffee"), ".tif", words=("spec.formats=jpeg",), faults="format"),
    "ink-of-rgb": file(
        lambda: photograph("rocket"), ".tif", words=("spec.profile=cmyk", "spec.tac=200"), faults="ink"
    ),
}  # fmt: skip


def write(samples: dict[str, Sample], directory: Path) -> dict[str, Path]:
    """Write the samples into a directory; return their paths by name."""
    directory.mkdir(parents=True, exist_ok=True)
    paths = {name: directory / f"{name}{sample.suffix}" for name, sample in samples.items()}
    for name, sample in samples.items():
        sample.write(paths[name])
    return paths
