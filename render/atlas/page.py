"""The atlas' page: `page.html`, filled in. It needs no server, no network and no script from elsewhere."""

from __future__ import annotations

import html
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from urllib.parse import quote

from render.pages.templates import fill, script_json, table_rows


@dataclass(frozen=True)
class Entry:
    """One picture: `anchor` is its name in links to it, `label` stands under it, `picture` is its file beside the page.

    `facts` is a line about it; `commands` are what may be typed, each with what it is for.
    """

    anchor: str
    label: str
    title: str
    picture: str
    facts: str
    commands: tuple[tuple[str, str], ...]


def page(
    title: str,
    what: str,
    size: tuple[int, int],
    entries: Sequence[Entry],
    made: Sequence[tuple[str, str]],
    command: str,
) -> str:
    """The page's text. `what` names the pictures in the plural, all of `size` (rows, columns) px; `made` and `command` say
    how the atlas was made.

    Nothing in it can become markup or script: text is escaped, and data is JSON without angle brackets.
    """
    values = {
        "title": html.escape(title),
        "what": html.escape(what),
        "count": str(len(entries)),
        "cells": "\n".join(_cell(entry, size) for entry in entries),
        "made": table_rows(made),
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
