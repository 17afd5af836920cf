"""Command `settings image=PICTURE`: print the settings inside a finished picture."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from render.config.options import split_words, take_json
from render.errors import UserError
from render.export.metadata import read_settings


def settings_command(words: Sequence[str]) -> int:
    """Print the settings inside the picture that `image=` names."""
    # The settings are JSON anyway.
    _, other_words = take_json(words)
    options, unknown_words = split_words(other_words, {"image": ""})
    if unknown_words:
        raise UserError(f"settings does not know {unknown_words[0]!r}: give it image=PICTURE")
    if not options["image"]:
        raise UserError("settings needs a picture: image=PICTURE")
    print_settings(options["image"])
    return 0


def print_settings(image: str) -> None:
    """Print the settings inside a finished picture as JSON. Raise `UserError` if there are none."""
    try:
        settings = read_settings(Path(image))
    except OSError as error:
        raise UserError(f"image {image!r} cannot be read: {error.strerror or error}") from None
    if not settings:
        raise UserError(f"image {image!r} holds no settings: name a picture that this program made")
    print(json.dumps(settings, indent=1))
