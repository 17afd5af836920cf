"""The commands that make a point of a sweep again: as it is, and as a print."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from dataclasses import asdict
from functools import cache
from typing import Any

from render.compose import load_config
from render.config import Config, picture_bleed, picture_width
from render.viewer.words import differing_words, make_command, render_command

#: What a gallery exports, and what `sweep.points` then reads.
FAVOURITES = "favourites.yaml"

_PRINT = "poster"
#: What a print has of its own: its name, its size, and tiles that suit it. None of it changes what is dreamed.
_ITS_OWN = ("name", "output.width", "output.width_cm", "output.width_in", "output.height", "output.dpi", "tiles.size",
            "tiles.parallel", "octaves.count")  # fmt: skip
#: As `octaves.count` may be.
_MOST_OCTAVES = 1000


def point_command(settings: Mapping[str, Any]) -> str:
    """The `make render ...` that dreams a point again, from its config as plain data."""
    return render_command(settings)


def poster_command(config: Config, size: tuple[int, int]) -> str:
    """The `make render conf=poster ...` that dreams a point as a print; `size` is (rows, columns) px of its picture.

    It has octaves enough for the coarsest to be as large as the point's; where a setting lists one value for each octave,
    it has as many as the point. A point whose height was given keeps its aspect.
    """
    return make_command("render", [f"conf={_PRINT}", *_poster_words(config, size)])


def favourites_command(config: Config, size: tuple[int, int], keys: Collection[str]) -> str:
    """The `make sweep conf=poster ...` that dreams the points which a favourites file lists as prints.

    `config` and `size` are those of any point; `keys` are the keys and groups that the points' words set, which the file
    says for each.
    """
    common = [
        word for word in _poster_words(config, size) if not any(word.startswith((f"{key}=", f"{key}.")) for key in keys)
    ]
    return make_command("sweep", [f"conf={_PRINT}", f"sweep.points={FAVOURITES}", *common])


def _poster_words(config: Config, size: tuple[int, int]) -> list[str]:
    usual = _print()
    wide = picture_width(usual.output) or size[1]
    rows, columns = (max(1, side - 2 * picture_bleed(config.output)) for side in size)
    words = differing_words(asdict(config), _PRINT, aside=_ITS_OWN)
    if config.output.height is not None:
        words.append(f"output.height={max(1, round(wide * rows / columns))}")
    count = config.octaves.count
    if not _differs_by_octave(config):
        # The coarsest is columns / scale^(count - 1) px wide.
        count += round(math.log(wide / columns) / math.log(config.octaves.scale))
        count = min(max(1, count), _MOST_OCTAVES)
    return words if count == usual.octaves.count else [*words, f"octaves.count={count}"]


@cache
def _print() -> Config:
    return load_config(_PRINT, [])


def _differs_by_octave(config: Config) -> bool:
    """Whether any setting lists a value for each octave."""
    objective = config.objective
    terms = [objective.terms, *objective.by_model.values(), *(region["terms"] for region in objective.regions)]
    singly = (config.octaves.steps, config.step_size, config.jitter, *vars(config.conditioning).values())
    return any(isinstance(value, list) for value in singly) or any(
        isinstance(one, list) for value in terms if isinstance(value, list) for one in value
    )
