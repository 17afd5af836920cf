"""The commands that make a point of a sweep again: as it is, and as a print."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cache
from typing import Any

from render.config.command_words import differing_words, make_command, render_command
from render.config.compose import load_config
from render.config.schema import Config, picture_bleed, picture_width

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
    return make_command("render", [f"conf={_PRINT}", *_with_count(*_poster_words(config, size))])


@dataclass(frozen=True)
class Prints:
    """How favourites become prints: the `make sweep conf=poster ...` that reads a file of them, and what that says of each.

    `words` are the `key=value` of every point, in the points' order.
    """

    command: str
    words: tuple[tuple[str, ...], ...]


def favourites_as_prints(points: Sequence[tuple[Sequence[str], Config, tuple[int, int]]]) -> Prints:
    """The command and the file's words that dream each point as `poster_command` does.

    `points` are the `key=value` of a point's axes, its config and the (rows, columns) px of its picture. The command has
    what all prints share. What a print has of its own, such as a width, is not in the file though it be an axis; what
    follows from a point's size or scale is there where it is not the same for all.
    """
    rests, counts, axes = [], [], []
    for words, config, size in points:
        rest, count = _poster_words(config, size)
        keys = [word.partition("=")[0] for word in words]
        said = tuple(start for key in keys for start in (f"{key}=", f"{key}."))
        rests.append([word for word in rest if not word.startswith(said)])
        counts.append(count)
        axes.append([word for key, word in zip(keys, words, strict=True) if key not in _ITS_OWN])
    common = [word for word in (rests[0] if rests else ()) if all(word in rest for rest in rests)]
    # A point of which nothing is left says this: a file has no empty points.
    differ = len(set(counts)) > 1 or any(len(axis) < len(words) for axis, (words, *_) in zip(axes, points, strict=True))
    listed = [
        (*axis, *(word for word in rest if word not in common), *([f"octaves.count={count}"] if differ else []))
        for axis, rest, count in zip(axes, rests, counts, strict=True)
    ]
    shared = common if differ or not counts else _with_count(common, counts[0])
    return Prints(make_command("sweep", [f"conf={_PRINT}", f"sweep.points={FAVOURITES}", *shared]), tuple(listed))


def _poster_words(config: Config, size: tuple[int, int]) -> tuple[list[str], int]:
    """What differs from the usual print, but for the number of octaves, and that number."""
    wide = picture_width(_print().output) or size[1]
    rows, columns = (max(1, side - 2 * picture_bleed(config.output)) for side in size)
    words = differing_words(asdict(config), _PRINT, aside=_ITS_OWN)
    if config.output.height is not None:
        words.append(f"output.height={max(1, round(wide * rows / columns))}")
    count = config.octaves.count
    if not _differs_by_octave(config):
        # The coarsest is columns / scale^(count - 1) px wide.
        count += round(math.log(wide / columns) / math.log(config.octaves.scale))
        count = min(max(1, count), _MOST_OCTAVES)
    return words, count


def _with_count(words: list[str], count: int) -> list[str]:
    return words if count == _print().octaves.count else [*words, f"octaves.count={count}"]


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
