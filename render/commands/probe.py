"""Command `probe class=NAME`: dream a class, and print what the network sees."""

from __future__ import annotations

from collections.abc import Sequence

from render.config.compose import load_config
from render.errors import UserError
from render.probe.class_probe import aim, run_probe

_CLASS = "class="


def probe_command(root: str, words: Sequence[str]) -> int:
    """Probe the class that `class=` names; the other words change the config.

    Raises:
        UserError: for models or classes that cannot be probed.
        RenderError: every error that a render raises.
    """
    class_text, overrides = take_class(words)
    config, target = aim(load_config(root, overrides), class_text)
    run_probe(config, target)
    return 0


def take_class(words: Sequence[str]) -> tuple[str, list[str]]:
    """Return the value of `class=` (the last one, if there are several) and the other words."""
    classes = [word.removeprefix(_CLASS).strip() for word in words if word.startswith(_CLASS)]
    if not classes or not classes[-1]:
        raise UserError("probe needs a class: class=NAME, such as class=dumbbell, or its index")
    return classes[-1], [word for word in words if not word.startswith(_CLASS)]
