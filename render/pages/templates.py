"""Templates of the HTML pages; they share `style.css` (colours and text) and `copy.js`."""

from __future__ import annotations

import html
import json
import re
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any


def fill(template: Path, values: Mapping[str, str]) -> str:
    """Return the page of a template, whose placeholders are `{{word}}` and `{{file.css}}`.

    A word becomes one of `values`, a file name the content of that file. Files are looked up beside the template, then
    beside this module. The page is a single file that needs no other.
    """

    def content(match: re.Match[str]) -> str:
        """Return the text in place of a placeholder."""
        name = match[1]
        if name in values:
            return values[name]
        beside = template.with_name(name)
        return _read(beside if beside.exists() else Path(__file__).with_name(name))

    # A single pass, so that a title that looks like a placeholder is not filled in.
    return re.sub(r"\{\{([\w.]+)\}\}", content, _read(template))


def table_rows(pairs: Sequence[tuple[str, str]]) -> str:
    """Return the HTML rows of a table from pairs (name, value), escaped."""
    return "\n".join(f"<tr><th scope=row>{html.escape(key)}</th><td>{html.escape(value)}</td></tr>" for key, value in pairs)


def script_json(data: Any) -> str:
    """Return `data` as JSON that is safe inside a script element."""
    text = json.dumps(data, allow_nan=False)
    return text.replace("&", r"\u0026").replace("<", r"\u003c").replace(">", r"\u003e")


@cache
def _read(path: Path) -> str:
    return path.read_text(encoding="utf-8").rstrip("\n")
