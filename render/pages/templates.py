"""How the program's pages are filled in, and what they share: `style.css`, their colours and text, and `copy.js`."""

from __future__ import annotations

import html
import json
import re
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any


def fill(template: Path, values: Mapping[str, str]) -> str:
    """The page that a template makes: `{{word}}` becomes the value called so, `{{file.css}}` what is in that file.

    Files lie beside the template or beside this module. A page is then one file, which needs no other.
    """

    def filling(match: re.Match[str]) -> str:
        name = match[1]
        if name in values:
            return values[name]
        beside = template.with_name(name)
        return _read(beside if beside.exists() else Path(__file__).with_name(name))

    # In one pass: a title that looks like a placeholder stays what it is.
    return re.sub(r"\{\{([\w.]+)\}\}", filling, _read(template))


def table_rows(pairs: Sequence[tuple[str, str]]) -> str:
    """Rows of a table, a name and what it says each, escaped."""
    return "\n".join(f"<tr><th scope=row>{html.escape(key)}</th><td>{html.escape(value)}</td></tr>" for key, value in pairs)


def script_json(data: Any) -> str:
    """JSON that may stand inside a script element."""
    text = json.dumps(data, allow_nan=False)
    return text.replace("&", r"\u0026").replace("<", r"\u003c").replace(">", r"\u003e")


@cache
def _read(path: Path) -> str:
    return path.read_text(encoding="utf-8").rstrip("\n")
