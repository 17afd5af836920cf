"""Content of contact sheet and gallery: a sweep's axes, and the outcome of each point."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from render.config.command_words import make_command
from render.config.hydra_text import hydra_text
from render.job.targets import targets
from render.pages.zoom_page import setting_text
from render.sweeps.axes import Found
from render.sweeps.board import Board
from render.sweeps.commands import favourites_as_prints, point_command, poster_command
from render.sweeps.drafting import Drafted, Refused
from render.sweeps.shown import Exhibition, Shown
from render.sweeps.thumbnails import shown_files
from render.system.version import __version__


def exhibition(found: Found, points: Sequence[Drafted | Refused], board: Board, home: Path, command: str) -> Exhibition:
    """Return the content of contact sheet and gallery for the current state of a sweep."""
    rows, columns = found.layout()
    drafted = [point for point in points if isinstance(point, Drafted)]
    first = drafted[0] if drafted else None
    prints = favourites_as_prints([(point.point.words, point.config, point.size) for point in drafted])
    print_words = {point.point.number: words for point, words in zip(drafted, prints.words, strict=True)}
    shared_facts = [*_shared(found, first), ("program", f"version {__version__}")]
    return Exhibition(
        home.name,
        found.axes,
        tuple(_shown(point, board, home, print_words.get(point.point.number, ())) for point in points),
        rows,
        columns,
        tuple(shared_facts),
        command,
        prints.command if drafted else "",
    )


def _shared(found: Found, first: Drafted | None) -> list[tuple[str, str]]:
    """Return (name, text) of the settings that all points share: picture, network, size, octaves, steps."""
    if first is None:
        return []
    config, rows, columns = first.config, *first.size
    facts = {
        "image": ("image", config.image),
        "model": ("network", config.model.name),
        "objective": ("objective", hydra_text(config.objective.terms)),
        "output": ("size", f"{columns} x {rows} px"),
        "octaves": ("octaves", f"{config.octaves.count} x {setting_text(config.octaves.steps)} steps"),
        "step_size": ("step size", setting_text(config.step_size)),
    }
    swept_sections = {
        word.partition("=")[0].partition(".")[0] for axis in found.axes for value in axis.values for word in value.words
    }
    if "image" in swept_sections:
        swept_sections.add("output")
    if config.objective.terms is None:
        swept_sections.add("objective")
    return [pair for key, pair in facts.items() if key not in swept_sections]


def sweep_command(root: str, words: Sequence[str]) -> str:
    """Return the `make sweep ...` of a root config and words."""
    return make_command("sweep", [f"conf={root}", *words])


def _shown(point: Drafted | Refused, board: Board, home: Path, listed: tuple[str, ...]) -> Shown:
    standing = board.standings[point.point.number]
    if isinstance(point, Refused):
        return Shown(
            point.point.at, "failed", point.reason, "", None, None, None, None, (0, 0), 0.0, point.point.words, "", ""
        )
    directory = home / point.directory
    state = standing.state if standing.state in ("done", "failed") else "waiting"
    picture = large = thumbnail = zoom = None
    if state == "done":
        finished = targets(directory, point.config.name, point.config.output)[0].path
        picture, large, thumbnail, zoom = shown_files(directory, finished, home)
    return Shown(
        point.point.at,
        state,
        standing.reason if state == "failed" else "",
        point.directory,
        picture,
        large,
        thumbnail,
        zoom,
        point.size,
        # Points of earlier commands have their recorded time.
        standing.seconds or point.seconds,
        point.point.words,
        point_command(asdict(point.config)),
        poster_command(point.config, point.size),
        listed,
    )
