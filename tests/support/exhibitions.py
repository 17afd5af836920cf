"""Sweeps to be shown, of real picture files; nothing is dreamed for them."""

from __future__ import annotations

import io
import itertools
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image

from render.source.source import sample_path
from render.sweeps.axes.definition import AxisValue, SweepAxis
from render.sweeps.gallery.exhibition import Exhibition, ShownPoint

LAYERS, STEPS, IMAGES = ("mixed3", "mixed4", "mixed5", "mixed6"), ("1", "1.5", "2"), ("chelsea", "hubble")
#: What the third axis shows: (rows, columns) px.
SIZES = {"chelsea": (300, 450), "hubble": (348, 400)}
FAILED, WAITING = 5, 10


def axis(key: str, values: dict[str, str]) -> SweepAxis:
    """Return an axis of labels with the text that sets each."""
    return SweepAxis(key, tuple(AxisValue(label, (f"{key}={text}",)) for label, text in values.items()))


def three_axes() -> tuple[SweepAxis, ...]:
    """Return axes of images, layers and step sizes."""
    return (
        axis("image", {image: f"sample:{image}" for image in IMAGES}),
        axis("objective.terms", {layer: f"[{layer}]" for layer in LAYERS}),
        axis("step_size", {step: step for step in STEPS}),
    )


def exhibition(
    axes: tuple[SweepAxis, ...], shown: Callable[[int, tuple[int, ...]], ShownPoint], rows: int | None, columns: int | None
) -> Exhibition:
    """Return an exhibition of every combination of the axes' values, the last fastest."""
    places = itertools.product(*(range(len(one.values)) for one in axes))
    points = tuple(shown(number, at) for number, at in enumerate(places))
    return Exhibition(
        "layers-1a2b3c4d",
        axes,
        points,
        rows,
        columns,
        (("network", "inception_v3"), ("octaves", "5, scale 1.4"), ("seed", "0")),
        "make sweep conf=layers image=sample:chelsea,sample:hubble step_size=1,1.5,2",
        "make sweep conf=poster sweep.points=ratings.yaml octaves.count=13",
    )


def write_pictures(directory: Path, at: tuple[int, ...]) -> tuple[int, int]:
    """Write a picture and its thumbnail, different for each point; return (rows, columns) px."""
    name = IMAGES[at[0]]
    rows, columns = SIZES[name]
    hue, saturation, value = Image.open(sample_path(name)).convert("RGB").resize((columns, rows)).convert("HSV").split()
    shifted_hue = np.asarray(hue) + np.uint8(61 * at[1])
    strong_saturation = np.clip(np.asarray(saturation) * (1 + 0.8 * at[2]), 0, 255).astype(np.uint8)
    picture = Image.merge("HSV", (Image.fromarray(shifted_hue), Image.fromarray(strong_saturation), value)).convert("RGB")
    directory.mkdir(parents=True)
    picture.save(directory / "dream.png")
    picture.thumbnail((320, 320))
    picture.save(directory / "thumbnail.webp")
    return rows, columns


def write_sweep(directory: Path) -> Exhibition:
    """Write 24 points of three axes: one has failed, one waits, one has a deep zoom.

    Their names need escaping in web addresses.
    """
    axes = three_axes()

    def shown(number: int, at: tuple[int, ...]) -> ShownPoint:
        words = tuple(word for one, value in zip(axes, at, strict=True) for word in one.values[value].words)
        slug = "-".join(one.values[value].label for one, value in zip(axes, at, strict=True))
        folder = f"points/{slug} #1-{number:012x}"
        state = {FAILED: "failed", WAITING: "waiting"}.get(number, "done")
        reason = "inception_v3 has no layer 'mixed99': did you mean mixed9?" if state == "failed" else ""
        commands = (f"make render {' '.join(words)}", f"make render conf=poster {' '.join(words)} octaves.count=13")
        if state != "done":
            return ShownPoint(at, state, reason, folder, None, None, None, None, (0, 0), 0.0, words, *commands)
        size = write_pictures(directory / folder, at)
        picture, thumbnail = f"{folder}/dream.png", f"{folder}/thumbnail.webp"
        zoom = f"{folder}/dream-zoom/index.html" if number == 0 else None
        return ShownPoint(at, state, reason, folder, picture, picture, thumbnail, zoom, size, 12.345, words, *commands)

    return exhibition(axes, shown, 1, 2)


def write_many(directory: Path, count: int) -> Exhibition:
    """Write `count` points of two axes, 50 in a row, with a thumbnail each that is the picture, too."""
    axes = (
        axis("objective.terms", {f"mixed4:{number}": f"[mixed4:{number}]" for number in range(count // 50)}),
        axis("step_size", {f"{0.1 * number:.1f}": f"{0.1 * number:.1f}" for number in range(50)}),
    )
    source = Image.open(sample_path("hubble")).convert("RGB")
    source = source.resize((576, 502))
    encoded = []
    for left in range(0, 250, 5):
        file = io.BytesIO()
        source.crop((left, 40, left + 320, 253)).save(file, "webp", method=0)
        encoded.append(file.getvalue())

    def shown(number: int, at: tuple[int, ...]) -> ShownPoint:
        words = tuple(word for one, value in zip(axes, at, strict=True) for word in one.values[value].words)
        folder = f"points/{number:012x}"
        (directory / folder).mkdir(parents=True)
        (directory / folder / "thumbnail.webp").write_bytes(encoded[at[1]])
        name = f"{folder}/thumbnail.webp"
        command = f"make render conf=preview image=me.jpg output.width=320 {' '.join(words)}"
        return ShownPoint(at, "done", "", folder, name, name, name, None, (213, 320), 2.5, words, command, command)

    return exhibition(axes, shown, 0, 1)
