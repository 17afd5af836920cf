"""What the looks of a contact sheet do to colours and forms, beside plain dreams of the same pictures.

    make sheet look=dogs,eyes image=me.jpg,sample:coffee output.width=640 sweep.dir=sweeps/looks
    python -m tests.reports.looks sweep=sweeps/looks [looks=dogs,eyes]

The sweep has a point for each look and picture. Each picture is dreamed once more here, as `make render` does without a
look: by InceptionV3's default objective, without a Laplacian pyramid, `decorrelate` or `shoulder`. For every look the
report prints the most pixels that it newly clips, and its noise of colour relative to the plain dream's.
"""

from __future__ import annotations

import sys
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from render.config.hydra_text import name_text
from render.config.schema import NO_LOOK
from render.dreaming.resample import Pixels
from render.errors import RenderError, UserError
from render.job.run_record import read_run
from tests.benchmarks.colour import MAX_CLIPPED, MAX_NOISE
from tests.benchmarks.table import Table
from tests.reports.conditioning import dreamed
from tests.reports.picture_figures import of_run
from tests.support.picture_measures import NOISE_WAVELENGTH, chroma_noise, clipped_share, coarse_share


@dataclass(frozen=True)
class Figures:
    """Figures of one look on one picture: newly clipped share, noise of colour / that of a plain dream, coarse share."""

    newly_clipped: float
    noise_ratio: float
    coarse: float

    @classmethod
    def of(cls, source: Pixels, dream: Pixels, plain_noise: float) -> Figures:
        """Return the figures of a dream of a source, both (rows, columns, 3), 0..255."""
        change = dream - source
        return cls(clipped_share(dream) - clipped_share(source), chroma_noise(change) / plain_noise, coarse_share(change))


def points(sweep: Path, looks: frozenset[str]) -> Iterator[tuple[str, str, Path]]:
    """Yield look, image and run directory of a sweep's points, without those that have no look or another than `looks`."""
    for run in sorted((sweep / "points").glob("*")):
        config = read_run(run).record.get("config", {})
        look = config.get("look", NO_LOOK)
        if look != NO_LOOK and (look in looks or not looks):
            yield look, config["image"], run


def table_of(figures: dict[str, list[Figures]]) -> Table:
    """Return the table of all looks, with a goal for each."""
    rows: list[dict[str, str | float]] = []
    goals = {}
    for look, of_look in sorted(figures.items()):
        clipped = max(one.newly_clipped for one in of_look)
        noises = [one.noise_ratio for one in of_look]
        rows.append(
            {
                "look": look,
                "pictures": len(of_look),
                "newly clipped %, most": 100 * clipped,
                "noise / plain, median": median(noises),
                "most": max(noises),
                "coarse %, median": 100 * median(one.coarse for one in of_look),
            }
        )
        holds = clipped <= MAX_CLIPPED and max(noises) <= MAX_NOISE
        goals[f"{look}: at most {MAX_CLIPPED:.0%} newly clipped and {MAX_NOISE:g} of the noise, on every picture"] = holds
    notes = (
        f"noise of colour: energy of dream minus source in the two axes of chroma, under {NOISE_WAVELENGTH:g} px; clipped: "
        "a channel is 0 or 255; coarse: energy of the change at wavelengths above 1/16 of the width",
    )
    return Table("looks", "looks beside plain dreams of the same pictures", tuple(rows[0]), rows, goals, notes)


def measure(sweep: Path, looks: frozenset[str]) -> Table:
    """Return the figures of a sweep's looks. Raise `UserError` if it has none of them."""
    plain: dict[tuple[str, int], float] = {}
    figures: dict[str, list[Figures]] = defaultdict(list)
    for look, image, run in points(sweep, looks):
        source, dream = of_run(run)
        key = image, dream.shape[1]
        if key not in plain:
            words = [f"image={name_text(image)}", f"output.width={dream.shape[1]}", f"output.height={dream.shape[0]}"]
            before, after = dreamed(words)
            plain[key] = chroma_noise(after - before)
        figures[look].append(Figures.of(source, dream, plain[key]))
    if not figures:
        raise UserError(f"sweep={sweep} has no dream with a look: make one with make sheet look=dogs,eyes image=me.jpg")
    return table_of(figures)


def main(words: list[str]) -> int:
    """Print the table; return the exit code."""
    options = dict(word.partition("=")[::2] for word in words)
    try:
        if set(options) - {"sweep", "looks"} or "sweep" not in options:
            raise UserError("name the directory of a sweep of looks: sweep=DIR, and looks=dogs,eyes for some of them")
        looks = frozenset(filter(None, options.get("looks", "").split(",")))
        print(measure(Path(options["sweep"]), looks).text())
    except RenderError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
