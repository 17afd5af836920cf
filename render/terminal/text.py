"""Escaping of outside text, such as file names and messages of libraries, so that it is safe to show."""

from __future__ import annotations

import re

#: Joiners that scripts and emoji need inside words. Other invisible characters are escaped: they can disguise a name.
_JOINERS = "\u200c\u200d"
#: Colour sequences in the output of other programs (ECMA-48, "SGR").
_COLOURS = re.compile(r"\x1b\[[0-9;]*m")


def escaped(text: str, keep: str = "") -> str:
    r"""Return text with each character that is not printable replaced by a backslash escape.

    The result stays on one line and moves no cursor. Line breaks and other control characters, line and paragraph
    separators, marks that change the direction of writing and undecodable bytes of file names become `\n`, `\x1b`,
    `\u202e`, `\udce9`. Spaces of any width and characters in `keep` stay.
    """
    if text.isprintable():
        return text
    return "".join(letter if _is_shown(letter) or letter in keep else _escape(letter) for letter in text)


def encoded(text: str) -> bytes:
    """Return text as UTF-8 for a web page, with undecodable bytes of file names as backslash escapes."""
    return text.encode("utf-8", "backslashreplace")


def without_colours(text: str) -> str:
    """Return the output of another program without its colour sequences."""
    return _COLOURS.sub("", text)


def one_line(text: str) -> str:
    """Return text on one line: each run of white space becomes one space, and the rest is escaped."""
    return escaped(" ".join(text.split()))


def _is_shown(letter: str) -> bool:
    # Python calls spaces such as U+00A0 and U+3000 not printable, but they are harmless. U+2028 and U+2029 break lines.
    return (
        letter.isprintable()
        or letter in _JOINERS
        or (letter.isspace() and letter >= "\xa0" and letter not in "\u2028\u2029")
    )


def _escape(letter: str) -> str:
    return letter.encode("unicode_escape", "backslashreplace").decode("ascii")
