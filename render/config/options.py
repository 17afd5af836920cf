"""The words of commands that compose no config: `key=value`, from a few keys that they know."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from render.errors import UserError


def split_words(words: Sequence[str], usual: Mapping[str, str]) -> tuple[dict[str, str], list[str]]:
    """The options that the words set, with their `usual` values for the rest, and the words that are none of them."""
    options, others = dict(usual), []
    for word in words:
        key, equals, value = word.partition("=")
        if equals and key in options:
            options[key] = value
        else:
            others.append(word)
    return options, others


def check_switches(options: Mapping[str, str], keys: Iterable[str]) -> None:
    """Raises `UserError` where one of these is neither true nor false."""
    for key in keys:
        if options[key] not in ("true", "false"):
            raise UserError(f"{key}={options[key]}: must be true or false")
