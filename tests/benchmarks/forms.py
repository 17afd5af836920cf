"""How large the forms of a dream are against its width, as `octaves.count` and the rest of the config have it."""

from __future__ import annotations

from tests.benchmarks.table import Table
from tests.benchmarks.trained import GOOGLENET, missing
from tests.reports.conditioning import dreamed
from tests.support.picture_measures import COARSE_PART, LARGEST_SHARE, coarse_share, largest_form

#: Widths of the pictures, px, and how far their largest forms may be apart, relative to the width.
WIDTHS, BOUND = (700, 1400, 2800), 0.3
_QUICK_WIDTHS = (96, 128)
_QUICK = ("octaves.count=2", "octaves.steps=3", "objective.terms=[mixed0]")


def measure(quick: bool) -> Table:
    """For each width the share of coarse forms, and the size of the largest."""
    lacking = missing("googlenet")
    network = () if quick or lacking else ("model=googlenet", f"model.weights={GOOGLENET}")
    rows: list[dict[str, str | float]] = []
    for width in _QUICK_WIDTHS if quick else WIDTHS:
        words = [*(_QUICK if quick else network), "image=sample:coffee", f"output.width={width}"]
        source, canvas = dreamed(words)
        change = canvas - source
        form = largest_form(change)
        rows.append(
            {"width px": width, "coarse %": 100 * coarse_share(change), "largest form px": form, "/ width": form / width}
        )
    sizes = [float(row["/ width"]) for row in rows]
    goal = f"the largest forms are {min(sizes):.3f} to {max(sizes):.3f} of the width, within {BOUND:.0%} of each other"
    definition = (
        f"coarse: energy of dream minus source at wavelengths above 1/{1 / COARSE_PART:.0f} of the width; largest form: "
        f"the wavelength above which {LARGEST_SHARE:.0%} of the energy lies"
    )
    notes = (definition, *([lacking] if lacking else []))
    return Table(
        "forms",
        "forms of a dream against its width",
        tuple(rows[0]),
        rows,
        {goal: max(sizes) <= (1 + BOUND) * min(sizes)},
        notes,
    )
