"""`make` commands that render a sweep again, or one of its points: unchanged or as a print."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cache
from typing import Any

from render.config.command_words import differing_words, make_command, render_command
from render.config.compose import load_config
from render.config.octave_settings import listed_octaves
from render.config.schema import Config, picture_bleed, picture_height, picture_width
from render.config.validation import MAX_OCTAVES

#: File of ratings that a gallery saves; `sweep.points` and `from` read the favourites in it.
FAVOURITES = "ratings.yaml"

#: Root config of a print.
_PRINT_CONFIG = "poster"
#: Keys that say how large a picture or film is.
SIZE_KEYS = ("output.width", "output.width_cm", "output.width_in", "output.height", "output.height_cm", "output.height_in",
             "output.dpi")  # fmt: skip
#: Keys that a print sets itself: name, size and tiles. None of them changes the dreamed content.
_PRINT_KEYS = ("name", *SIZE_KEYS, "tiles.size", "tiles.parallel", "octaves.count")


def sweep_command(root: str, words: Sequence[str]) -> str:
    """Return the `make sweep ...` of a root config and words."""
    return make_command("sweep", [f"conf={root}", *words])


def point_command(settings: Mapping[str, Any]) -> str:
    """Return the `make render ...` that dreams a point again, from its config as plain data."""
    return render_command(settings)


def poster_command(config: Config, size: tuple[int, int]) -> str:
    """Return the `make render conf=poster ...` that dreams a point as a print.

    `size` is (rows, columns) px of its picture.

    The print has as many octaves as its coarsest one needs to be as large as the point's (auto if the point has auto), or
    as many as the point if a setting lists one value per octave. A point with a configured height keeps its aspect.
    """
    return make_command("render", [f"conf={_PRINT_CONFIG}", *_with_count(*_poster_words(config, size))])


@dataclass(frozen=True)
class FavouritePrints:
    """Command and file content that turn favourites into prints.

    Attributes:
        command: The `make sweep conf=poster ...` that reads the file.
        words: The `key=value` of each point in the file, in the points' order.
    """

    command: str
    words: tuple[tuple[str, ...], ...]


def favourites_as_prints(points: Sequence[tuple[Sequence[str], Config, tuple[int, int]]]) -> FavouritePrints:
    """Return command and file content that dream each point as `poster_command` does.

    The command has the settings that all prints share. The file omits keys that a print sets itself, such as a width, even
    if they are axes. It has settings that follow from a point's size or scale if they differ between points.

    Args:
        points: For each point the `key=value` of its axes, its config and the (rows, columns) px of its picture.
    """
    poster_words, counts, axis_words = [], [], []
    for words, config, size in points:
        point_poster_words, count = _poster_words(config, size)
        keys = [word.partition("=")[0] for word in words]
        axis_prefixes = tuple(start for key in keys for start in (f"{key}=", f"{key}."))
        poster_words.append([word for word in point_poster_words if not word.startswith(axis_prefixes)])
        counts.append(count)
        axis_words.append([word for key, word in zip(keys, words, strict=True) if key not in _PRINT_KEYS])
    common = [
        word
        for word in (poster_words[0] if poster_words else ())
        if all(word in point_poster_words for point_poster_words in poster_words)
    ]
    # A point without other words lists its octave count, since the file may not have empty points.
    differ = len(set(counts)) > 1 or any(
        len(point_axis_words) < len(words) for point_axis_words, (words, *_) in zip(axis_words, points, strict=True)
    )
    file_words = [
        (
            *point_axis_words,
            *(word for word in point_poster_words if word not in common),
            *([f"octaves.count={count}"] if differ else []),
        )
        for point_axis_words, point_poster_words, count in zip(axis_words, poster_words, counts, strict=True)
    ]
    command_words = common if differ or not counts else _with_count(common, counts[0])
    return FavouritePrints(
        make_command("sweep", [f"conf={_PRINT_CONFIG}", f"sweep.points={FAVOURITES}", *command_words]), tuple(file_words)
    )


def _poster_words(config: Config, size: tuple[int, int]) -> tuple[list[str], int | str]:
    """Return the words that differ from the default print, and the number of octaves or auto."""
    print_width = picture_width(_print_config().output) or size[1]
    rows, columns = (max(1, side - 2 * picture_bleed(config.output)) for side in size)
    words = differing_words(asdict(config), _PRINT_CONFIG, aside=_PRINT_KEYS)
    if picture_height(config.output) is not None:
        words.append(f"output.height={max(1, round(print_width * rows / columns))}")
    count = config.octaves.count
    if isinstance(count, int) and listed_octaves(config) is None:
        # The coarsest is columns / scale^(count - 1) px wide.
        count += round(math.log(print_width / columns) / math.log(config.octaves.scale))
        count = min(max(1, count), MAX_OCTAVES)
    return words, count


def _with_count(words: list[str], count: int | str) -> list[str]:
    """Return the words with the number of octaves, if it is not the default print's."""
    return words if count == _print_config().octaves.count else [*words, f"octaves.count={count}"]


@cache
def _print_config() -> Config:
    """Return the config of the default print."""
    return load_config(_PRINT_CONFIG, [])
