"""File names in words: lists such as `a.jpg,b.jpg`, and patterns such as `photos/*.jpg`.

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
FILE_KEYS = ("image", "model.weights", "model.labels", "output.profile", "output.match")
#: One name of a list: in quotes, or up to the next comma.
_ITEM = re.compile(r"""\s*('(?:\\.|[^'\\])*'|"(?:\\.|[^"\\])*")\s*(?=,|$)|([^,]*)""")
#: Largest number of comma-separated parts that are joined to look for a file with commas in its name.
_MAX_JOINED_PARTS = 8
#: Longest file name that is looked for: Linux allows no longer path.
_MAX_PATH_LENGTH = 4096


def listed_names(key: str, text: str) -> list[str] | None:
    """Return the values of `key` that a word lists, as single words would write them.

    Return None for a single name.

    Patterns are replaced by the matching files, in natural order, without repetitions.

    Raises:
        UserError: For an empty list and for a pattern that matches nothing.
    """
    if _exists(key, text):
        return None
    has_brackets = text.startswith("[") and text.endswith("]")
    if has_brackets and not text[1:-1].strip():
        raise UserError(f"{key}={text} lists nothing: name at least one file")
    parts = list(_items(text[1:-1] if has_brackets else text))
    if len(parts) == 1 and not has_brackets and not _is_pattern(key, parts[0]):
        return None
    values: list[str] = []
    for part in _joined(key, parts):
        if not part.strip():
            raise UserError(f"{key}={text} names nothing beside a comma: take the comma away")
        is_pattern = _is_pattern(key, part)
        values += [value for value in matching_files(key, part) if not (is_pattern and value in values)]
    return values


def matching_files(key: str, name: str) -> list[str]:
    """Return the files that a pattern matches, in natural order, as words write them.

    A plain name is returned as it is.

    Raises:
        UserError: For a pattern that matches nothing.
    """
    if not _is_pattern(key, name):
        return [name if _exists(key, name) else name.strip()]
    matches = _matched_files(key, name)
    if not matches:
        directory = _first_directory(user_path(name, key))
        problem = "matches no file" if directory.is_dir() else "there is no such directory"
        raise UserError(f"{key}={name}: {problem}; looked in {directory.absolute()}")
    return [name_text(path) for path in sorted(matches, key=natural_key)]


def unquoted_name(key: str, word: str) -> str:
    """Return the file name of a value of `key`, without Hydra's quotes."""
    return str(parsed_word(f"{key}={word}").value()) if is_hydras(word) and word != "null" else word


def natural_key(name: str) -> tuple[list[str | int], str]:
    """Return a key to sort names in natural order: 2.jpg before 10.jpg, ignoring case."""
    parts = re.split(r"(\d+)", name)
    return [int(part) if number % 2 else part.casefold() for number, part in enumerate(parts)], name


def display_names(name: str) -> tuple[str, ...]:
    """Return the display names of a file, from short to long.

    They are its stem, its name, its name with directory, and so on up to the full path.
    """
    if name.startswith("sample:"):
        return name.removeprefix("sample:"), name
    path = Path(name)
    parts = path.parts
    return tuple(dict.fromkeys([path.stem, *("/".join(parts[-count:]) for count in range(1, len(parts))), name]))


def _items(text: str) -> Iterator[str]:
    """Yield the comma-separated parts of a list; commas in quotes separate nothing."""
    position = 0
    while True:
        match = _ITEM.match(text, position)
        assert match is not None
        yield match[1] or match[2] or ""
        position = match.end() + 1
        if position > len(text):
            return


def _joined(key: str, parts: Sequence[str]) -> Iterator[str]:
    """Yield the parts, with parts joined if together they name an existing file with commas."""
    position = 0
    while position < len(parts):
        for count in range(min(_MAX_JOINED_PARTS, len(parts) - position), 1, -1):
            name = ",".join(parts[position : position + count])
            if _exists(key, name):
                yield name
                position += count
                break
        else:
            yield parts[position]
            position += 1


def _exists(key: str, name: str) -> bool:
    """Return whether a file with exactly this name exists."""
    if not name.strip() or len(name) > _MAX_PATH_LENGTH:
        return False
    try:
        return user_path(name, key).is_file()
    except (UserError, OSError):
        return False


def _is_pattern(key: str, name: str) -> bool:
    """Return whether a name is a pattern.

    A name with brackets alone is a pattern only if files match it.
    """
    if is_hydras(name) or not glob.has_magic(name) or _exists(key, name):
        return False
    return bool(re.search(r"[*?]", name) or _matched_files(key, name))


def _matched_files(key: str, pattern: str) -> list[str]:
    """Return the files that a pattern matches, in no order."""
    # Path.glob would match hidden files, and refuses absolute patterns.
    matched = glob.iglob(str(user_path(pattern, key)), recursive=True)  # noqa: PTH207
    try:
        return [path for path in matched if Path(path).is_file()]
    except ValueError:
        # No file can have such a name.
        return []


def _first_directory(pattern: Path) -> Path:
    """Return the directory in which a pattern begins."""
    parts = pattern.parts
    first_pattern = next(number for number, part in enumerate(parts) if glob.has_magic(part))
    return Path(*parts[:first_pattern])
