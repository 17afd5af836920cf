"""Text from outside, such as file names and messages of libraries, made safe to show."""

from __future__ import annotations

import re

#: The joiners that scripts and emoji need inside words; other invisible characters can disguise a name.
_JOINERS = "\u200c\u200d"
#: Colours that other programs put into what they print (ECMA-48, "SGR").
_COLOURS = re.compile(r"\x1b\[[0-9;]*m")


def escaped(text: str, keep: str = "") -> str:
    r"""Return text with whatever is not printable as a backslash escape, so that it stays on one line and moves no cursor.

    Control characters, line and paragraph separators, marks that change the direction of writing and undecodable bytes
    of file names become `\n`, `\x1b`, `\u202e`, `\udce9`; spaces of any width stay. Characters in `keep` stay too.
    """
    if text.isprintable():
        return text
    return "".join(letter if _is_shown(letter) or letter in keep else _escape(letter) for letter in text)


def encoded(text: str) -> bytes:
    """Return text as UTF-8 for a page, with undecodable bytes of file names as backslash escapes."""
    return text.encode("utf-8", "backslashreplace")


def without_colours(text: str) -> str:
    """Return text that another program printed without the colours it set."""
    return _COLOURS.sub("", text)


def one_line(text: str) -> str:
    """Return text on one line, each run of white space as one space, and the rest escaped."""
    return escaped(" ".join(text.split()))


def _is_shown(letter: str) -> bool:
    # Spaces such as U+00A0 and U+3000 are not printable to Python, and harmless; U+2028 and U+2029 break lines.
    return (
        letter.isprintable()
        or letter in _JOINERS
        or (letter.isspace() and letter >= "\xa0" and letter not in "\u2028\u2029")
    )


def _escape(letter: str) -> str:
    return letter.encode("unicode_escape", "backslashreplace").decode("ascii")
