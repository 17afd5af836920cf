"""Class names in a user's file: one class a line, in the order of the classifier's logits.

Lines may be plain names, or as data sets publish them: `n01440764 tench, Tinca tinca` (ImageNet) or `/a/airfield 0`
(Places).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from pathlib import Path

from render.errors import UserError
from render.networks.declared import MAX_CLASSES
from render.system.reading import read_regular
from render.terminal.text import escaped

#: Synonyms of each class, the usual name first.
Names = tuple[tuple[str, ...], ...]

#: Largest file, bytes, and longest line, characters.
_MAX_BYTES, _MAX_LINE = 4 << 20, 500
_SYNSET = re.compile(r"n\d{8}[ \t]+(.+)")
_FOLDER = re.compile(r"/[a-z0-9]/(.+)")
_NUMBERED = re.compile(r"(.*\S)[ \t,;]+(\d{1,9})")


def read_names(path: Path) -> Names:
    """Return the names of the classes in a file.

    Raises:
        UserError: The file cannot be read, or is no list of names.
    """
    try:
        content = read_regular(path, _MAX_BYTES)
        lines = content.decode("utf-8-sig").rstrip().split("\n")
    except FileNotFoundError:
        raise UserError(f"model.labels={path}: there is no such file") from None
    except OSError as error:
        raise UserError(f"model.labels={path} cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise UserError(f"model.labels={path} is no text in UTF-8: write one name of a class on each line") from None
    if len(lines) > MAX_CLASSES:
        raise UserError(f"model.labels={path} has {len(lines):,} lines, and a classifier at most {MAX_CLASSES:,} classes")
    names = [line.strip() for line in lines]
    for number, name in enumerate(names, 1):
        if not name or len(name) > _MAX_LINE:
            reason = "is empty" if not name else f"has over {_MAX_LINE} characters"
            raise UserError(f"model.labels={path}: line {number} {reason}: write one name of a class on each line")
        if escaped(name.replace("\t", " ")) != name.replace("\t", " "):
            raise UserError(f"model.labels={path}: line {number} holds characters that cannot be shown: {name[:40]!a}")
    return _parsed(names)


def _parsed(lines: Sequence[str]) -> Names:
    """Return the names in lines that all have the same form."""
    without_numbers = _all(lines, _NUMBERED.fullmatch)
    if without_numbers is not None:
        numbers = [int(match[2]) for match in without_numbers]
        # A name may end with a number: only numbers that count the lines are no part of it.
        if numbers in ([*range(len(lines))], [*range(1, len(lines) + 1)]):
            lines = [match[1].strip("'\" ") for match in without_numbers]
    synsets = _all(lines, _SYNSET.fullmatch)
    if synsets is not None:
        return tuple(tuple(match[1].split(", ")) for match in synsets)
    folders = _all(lines, _FOLDER.fullmatch)
    return tuple((name,) for name in (lines if folders is None else [match[1] for match in folders]))


def _all(lines: Sequence[str], match: Callable[[str], re.Match[str] | None]) -> list[re.Match[str]] | None:
    """Return the match of every line, or None if there is a line without one."""
    matches = [result for result in map(match, lines) if result is not None]
    return matches if len(matches) == len(lines) else None
