"""File names in a sweep's words: lists such as `a.jpg,b.jpg`, and patterns such as `photos/*.jpg`.

Names are not in Hydra's grammar, for they may hold any character: what exists under the very name that is written is that.
"""

from __future__ import annotations

import glob
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from render.config.command_words import name_text
from render.config.compose import is_hydras, parsed_word
from render.errors import UserError
from render.storage.user_paths import user_path

#: The keys whose values name files that are read.
FILES = ("image", "model.weights", "output.profile")
#: Of a list, one name: in quotes, or up to the next comma.
_ITEM = re.compile(r"""\s*('(?:\\.|[^'\\])*'|"(?:\\.|[^"\\])*")\s*(?=,|$)|([^,]*)""")
#: A name that has commas itself has at most so many.
_COMMAS = 8


def listed(key: str, written: str) -> list[str] | None:
    """The values of `key` that a word lists, as words of their own would write them; None where it is one name.

    Patterns are replaced by the files that match, in natural order, each once. Raises `UserError` for an empty list and
    for a pattern that matches nothing.
    """
    if _exists(key, written):
        return None
    bracketed = written.startswith("[") and written.endswith("]")
    if bracketed and not written[1:-1].strip():
        raise UserError(f"{key}={written} lists nothing: name at least one file")
    parts = list(_items(written[1:-1] if bracketed else written))
    if len(parts) == 1 and not bracketed and not _is_pattern(key, parts[0]):
        return None
    values: list[str] = []
    for part in _joined(key, parts):
        if not part.strip():
            raise UserError(f"{key}={written} names nothing beside a comma: take the comma away")
        pattern = _is_pattern(key, part)
        values += [value for value in matching(key, part) if not (pattern and value in values)]
    return values


def matching(key: str, name: str) -> list[str]:
    """The files that a pattern matches, as words write them, in natural order; a name that is no pattern, as it stands."""
    if not _is_pattern(key, name):
        return [name if _exists(key, name) else name.strip()]
    found = _matched(key, name)
    if not found:
        place = _place(user_path(name, key))
        lacks = "matches no file" if place.is_dir() else "there is no such directory"
        raise UserError(f"{key}={name}: {lacks}; looked in {place.absolute()}")
    return [name_text(path) for path in sorted(found, key=natural)]


def text_of(key: str, word: str) -> str:
    """The name that a value of `key` means: without Hydra's quotes."""
    return str(parsed_word(f"{key}={word}").value()) if is_hydras(word) and word != "null" else word


def natural(name: str) -> tuple[list[str | int], str]:
    """Sorts names as people do: 2.jpg before 10.jpg, whatever the case."""
    parts = re.split(r"(\d+)", name)
    return [int(part) if number % 2 else part.casefold() for number, part in enumerate(parts)], name


def names_of(name: str) -> tuple[str, ...]:
    """What a file may be called, from short to long: its stem, its name, with its directory, ..., all of it."""
    if name.startswith("sample:"):
        return name.removeprefix("sample:"), name
    path = Path(name)
    parts = path.parts
    return tuple(dict.fromkeys([path.stem, *("/".join(parts[-count:]) for count in range(1, len(parts))), name]))


def _items(written: str) -> Iterator[str]:
    at = 0
    while True:
        match = _ITEM.match(written, at)
        assert match is not None
        yield match[1] or match[2] or ""
        at = match.end() + 1
        if at > len(written):
            return


def _joined(key: str, parts: Sequence[str]) -> Iterator[str]:
    """The parts, with those put together again that are one name with commas."""
    at = 0
    while at < len(parts):
        for count in range(min(_COMMAS, len(parts) - at), 1, -1):
            name = ",".join(parts[at : at + count])
            if _exists(key, name):
                yield name
                at += count
                break
        else:
            yield parts[at]
            at += 1


def _exists(key: str, name: str) -> bool:
    if not name.strip() or len(name) > 4096:
        return False
    try:
        return user_path(name, key).is_file()
    except (UserError, OSError):
        return False


def _is_pattern(key: str, name: str) -> bool:
    """Whether a name stands for the files that match it; with no more than brackets, only where there are such files."""
    if is_hydras(name) or not glob.has_magic(name) or _exists(key, name):
        return False
    return bool(re.search(r"[*?]", name) or _matched(key, name))


def _matched(key: str, pattern: str) -> list[str]:
    # Not Path.glob, which takes hidden files, and no pattern that begins at the root.
    matched = glob.iglob(str(user_path(pattern, key)), recursive=True)  # noqa: PTH207
    try:
        return [path for path in matched if Path(path).is_file()]
    except ValueError:
        # Not a name that a file can have.
        return []


def _place(pattern: Path) -> Path:
    """The directory that a pattern begins in."""
    parts = pattern.parts
    first = next(number for number, part in enumerate(parts) if glob.has_magic(part))
    return Path(*parts[:first])
