"""File names in a sweep's words: lists such as `a.jpg,b.jpg`, and patterns such as `photos/*.jpg`.

Names are not read with Hydra's grammar, since they may hold any character: an existing file with exactly the written name
takes precedence.
"""

from __future__ import annotations

import glob
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from render.config.hydra_text import is_hydras, name_text, parsed_word
from render.errors import UserError
from render.storage.user_paths import user_path

#: Keys whose values name input files.
FILES = ("image", "model.weights", "output.profile")
#: One name of a list: in quotes, or up to the next comma.
_ITEM = re.compile(r"""\s*('(?:\\.|[^'\\])*'|"(?:\\.|[^"\\])*")\s*(?=,|$)|([^,]*)""")
#: Most comma-separated parts that are joined to look for a file with commas in its name.
_COMMAS = 8


def listed(key: str, written: str) -> list[str] | None:
    """Return the values of `key` that a word lists, as single words would write them; None for a single name.

    Patterns are replaced by the matching files, in natural order, without repetitions.

    Raises:
        UserError: For an empty list and for a pattern that matches nothing.
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
    """Return the files that a pattern matches, as words write them, in natural order; return a plain name as it is."""
    if not _is_pattern(key, name):
        return [name if _exists(key, name) else name.strip()]
    matches = _matched(key, name)
    if not matches:
        directory = _place(user_path(name, key))
        problem = "matches no file" if directory.is_dir() else "there is no such directory"
        raise UserError(f"{key}={name}: {problem}; looked in {directory.absolute()}")
    return [name_text(path) for path in sorted(matches, key=natural)]


def text_of(key: str, word: str) -> str:
    """Return the file name of a value of `key`, without Hydra's quotes."""
    return str(parsed_word(f"{key}={word}").value()) if is_hydras(word) and word != "null" else word


def natural(name: str) -> tuple[list[str | int], str]:
    """Return a key to sort names in natural order: 2.jpg before 10.jpg, ignoring case."""
    parts = re.split(r"(\d+)", name)
    return [int(part) if number % 2 else part.casefold() for number, part in enumerate(parts)], name


def names_of(name: str) -> tuple[str, ...]:
    """Return the display names of a file, from short to long: stem, name, name with directory, ..., full path."""
    if name.startswith("sample:"):
        return name.removeprefix("sample:"), name
    path = Path(name)
    parts = path.parts
    return tuple(dict.fromkeys([path.stem, *("/".join(parts[-count:]) for count in range(1, len(parts))), name]))


def _items(written: str) -> Iterator[str]:
    position = 0
    while True:
        match = _ITEM.match(written, position)
        assert match is not None
        yield match[1] or match[2] or ""
        position = match.end() + 1
        if position > len(written):
            return


def _joined(key: str, parts: Sequence[str]) -> Iterator[str]:
    """Yield the parts, with parts joined if together they name an existing file with commas."""
    position = 0
    while position < len(parts):
        for count in range(min(_COMMAS, len(parts) - position), 1, -1):
            name = ",".join(parts[position : position + count])
            if _exists(key, name):
                yield name
                position += count
                break
        else:
            yield parts[position]
            position += 1


def _exists(key: str, name: str) -> bool:
    if not name.strip() or len(name) > 4096:
        return False
    try:
        return user_path(name, key).is_file()
    except (UserError, OSError):
        return False


def _is_pattern(key: str, name: str) -> bool:
    """Return whether a name is a pattern; one with brackets alone is a pattern only if files match it."""
    if is_hydras(name) or not glob.has_magic(name) or _exists(key, name):
        return False
    return bool(re.search(r"[*?]", name) or _matched(key, name))


def _matched(key: str, pattern: str) -> list[str]:
    # Path.glob would match hidden files, and refuses absolute patterns.
    matched = glob.iglob(str(user_path(pattern, key)), recursive=True)  # noqa: PTH207
    try:
        return [path for path in matched if Path(path).is_file()]
    except ValueError:
        # No file can have such a name.
        return []


def _place(pattern: Path) -> Path:
    """Return the directory in which a pattern begins."""
    parts = pattern.parts
    first_pattern = next(number for number, part in enumerate(parts) if glob.has_magic(part))
    return Path(*parts[:first_pattern])
