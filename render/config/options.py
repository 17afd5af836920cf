"""Parsing of `key=value` words for commands that have a few options of their own and no config."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from render.errors import UserError

#: Word that leaves the choice of a look to `render.job.looks`.
AUTO_LOOK = "look=auto"


def split_words(words: Sequence[str], usual: Mapping[str, str]) -> tuple[dict[str, str], list[str]]:
    """Split words into options and other words.

    Args:
        words: Words of the command line.
        usual: All options with their default values.

    Returns:
        The options, with defaults where no word sets them, and the words that set no option.
    """
    options, other_words = dict(usual), []
    for word in words:
        key, equals, value = word.partition("=")
        if equals and key in options:
            options[key] = value
        else:
            other_words.append(word)
    return options, other_words


def check_switches(options: Mapping[str, str], keys: Iterable[str]) -> None:
    """Raise `UserError` if the value of one of `keys` is neither true nor false."""
    for key in keys:
        if options[key] not in ("true", "false"):
            raise UserError(f"{key}={options[key]}: must be true or false")


def take_json(words: Sequence[str]) -> tuple[bool, list[str]]:
    """Return whether `json=true` asks for JSON, of several words the last, and the other words.

    Raise `UserError` if its value is neither true nor false.
    """
    options, other_words = split_words(words, {"json": "false"})
    check_switches(options, ["json"])
    return options["json"] == "true", other_words
