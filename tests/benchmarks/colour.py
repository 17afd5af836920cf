"""What `conditioning.decorrelate` and `conditioning.shoulder` do for colours: clipped pixels, and noise of colour."""

from __future__ import annotations

import numpy as np

from tests.benchmarks.table import Table
from tests.benchmarks.trained import GOOGLENET, missing
from tests.reports.conditioning import dreamed
from tests.support.picture_measures import NOISE_WAVELENGTH, chroma_noise, clipped_share

#: Most noise of colour, relative to the default's, and most clipped pixels, beyond the source's.
MAX_NOISE, MAX_CLIPPED = 0.5, 0.01
#: Settings that are compared; the goals are of the last.
SETTINGS = {
    "default": (),
    "decorrelate": ("conditioning.decorrelate=1",),
    "shoulder": ("conditioning.shoulder=32",),
    "both": ("conditioning.decorrelate=1", "conditioning.shoulder=32"),
}
PICTURES = ("sample:hubble", "sample:coffee")
MODELS = {"inception_v3": (), "googlenet": ("model=googlenet", f"model.weights={GOOGLENET}")}
_QUICK = ("output.width=96", "octaves.count=2", "octaves.steps=3", "objective.terms=[mixed0]")


def measure(quick: bool) -> Table:
    """For each network, picture and setting the shares of clipped pixels, and the noise of colour."""
    rows: list[dict[str, str | float]] = []
    goals, notes = {}, []
    for model, model_words in list(MODELS.items())[: 1 if quick else None]:
        if lacking := missing(model):
            notes.append(lacking)
            continue
        for picture in PICTURES:
            noise = {}
            for name, settings in SETTINGS.items():
                size = _QUICK if quick else ("output.width=640",)
                source, canvas = dreamed([f"image={picture}", *model_words, *size, *settings])
                clipped = clipped_share(source), clipped_share(canvas)
                noise[name] = chroma_noise(canvas - source)
                rows.append(
                    {
                        "network": model,
                        "picture": picture,
                        "settings": name,
                        "clipped in source %": 100 * clipped[0],
                        "in dream %": 100 * clipped[1],
                        "noise of colour": noise[name],
                        "/ default": noise[name] / noise["default"],
                        "mean change": float(np.abs(canvas - source).mean()),
                    }
                )
            case = f"{model}, {picture}, both"
            goals[f"{case}: {noise['both'] / noise['default']:.2f} of the default's noise of colour"] = (
                noise["both"] <= MAX_NOISE * noise["default"]
            )
            goals[f"{case}: {100 * (clipped[1] - clipped[0]):+.1f} % of the pixels newly clipped"] = (
                clipped[1] <= clipped[0] + MAX_CLIPPED
            )
    notes.append(
        f"noise of colour: energy of dream minus source in the two axes of chroma, under {NOISE_WAVELENGTH:g} px, levels "
        "squared; clipped: a channel is 0 or 255"
    )
    return Table("colour", "colours of dreams, 640 px wide", tuple(rows[0]), rows, goals, tuple(notes))
