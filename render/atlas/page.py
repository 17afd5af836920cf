"""HTML page of an atlas, from the template `page.html`. It needs no server."""

from __future__ import annotations

import html
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from urllib.parse import quote

from render.pages.templates import fill, script_json, table_rows


@dataclass(frozen=True)
class Entry:
    """One picture of the page.

    `anchor` is its name in links, `label` the text under it, `picture` its file, relative to the page. `facts` is a line
    about it; `commands` are pairs (purpose, command to type).
    """

    anchor: str
    label: str
    title: str
    picture: str
    facts: str
    commands: tuple[tuple[str, str], ...]


def page(
    title: str,
    noun: str,
    size: tuple[int, int],
    entries: Sequence[Entry],
    origin: Sequence[tuple[str, str]],
    command: str,
) -> str:
    """Return the HTML of the page.

    Text is escaped, and data is JSON without angle brackets, so no argument can add markup or script.

    Args:
        title: heading of the page.
        noun: name of the pictures, in the plural.
        size: (rows, columns) px of every picture.
        entries: the pictures.
        origin: pairs (name, value): how the atlas was made.
        command: the command that makes the atlas again.
    """
    values = {
        "title": html.escape(title),
        "what": html.escape(noun),
        "count": str(len(entries)),
        "cells": "\n".join(_cell(entry, size) for entry in entries),
        "made": table_rows(origin),
        "command": html.escape(command),
        "data": script_json([asdict(entry) | {"picture": quote(entry.picture)} for entry in entries]),
    }
    return fill(Path(__file__).with_name("page.html"), values)


def _cell(entry: Entry, size: tuple[int, int]) -> str:
    anchor, title = html.escape(entry.anchor), html.escape(entry.title)
    return (
        f'<li><a class="cell" id="{anchor}" href="#{quote(entry.anchor)}" title="{title}">'
        f'<img src="{html.escape(quote(entry.picture))}" width="{size[1]}" height="{size[0]}" alt="{title}" loading="lazy">'
        f"<span>{html.escape(entry.label)}</span></a></li>"
    )
