"""Facts of a run for its viewer page, from the run's record."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from render.config.command_words import render_command
from render.errors import UserError
from render.pages.zoom_page import ViewerFacts


def facts_of(record: Mapping[str, Any]) -> ViewerFacts:
    """Return the facts for a viewer page from a run's record. Raise `UserError` without a plan."""
    config = record["config"]
    octaves = record.get("plan", {}).get("octaves")
    if not octaves:
        raise UserError("the run's run.json says nothing of its octaves: it is no whole record")
    grid = octaves[-1]["grid"]
    origin_facts = {key: record[key] for key in ("objective", "weights_sha256", "image_sha256", "started") if key in record}
    return ViewerFacts(
        title=config["name"],
        width=grid["columns"]["length"],
        height=grid["rows"]["length"],
        dpi=config["output"].get("dpi"),
        parameters={**config, **origin_facts},
        command=render_command(config),
    )
