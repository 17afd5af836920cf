"""Reading of orders: specs of `conf/spec` or of users, and words that come before them."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from render.config.yaml_files import UnsafeYaml, load_yaml, read_yaml_text
from render.errors import UserError
from render.export.profile import Profile, read_profile
from render.preflight.order import FILE, PrintOrder, checked
from render.storage.user_paths import input_path
from render.system.paths import shipped_orders

#: Most bytes and values of a spec.
_MAX_BYTES, _MAX_NODES = 64 << 10, 1000
#: Profile that is no file: libvips' own.
_BUILT_IN_PRESS = "cmyk"


def spec_names() -> list[str]:
    """Return the names of the specs in `conf/spec`, sorted."""
    return sorted(path.stem for path in shipped_orders().glob("*.yaml"))


def read_order(spec: str | None, words: Mapping[str, str]) -> PrintOrder | None:
    """Return the order that a spec and words make; words come before the spec's values.

    Args:
        spec: Name of a spec in `conf/spec`, path or URL of a YAML file, or None.
        words: Texts by key of an order, as typed after `spec.`.

    Returns:
        The order; None if there are neither.

    Raises:
        UserError: the spec is unknown, or holds what no order has; or so does a word.
    """
    if spec is None and not words:
        return None
    values, path = ({}, None) if spec is None else _read_spec(spec)
    typed = checked(words, "spec.")
    press = typed.pop(FILE, None) if FILE in typed else _beside(values.get(FILE), path)
    values.pop(FILE, None)
    order = replace(PrintOrder(spec=spec), **values | typed)
    return replace(order, profile=None if press is None else _press_profile(press))


def _read_spec(spec: str) -> tuple[dict[str, Any], Path]:
    """Return the checked values of a spec, and its file."""
    path = _spec_path(spec)
    try:
        document = load_yaml(read_yaml_text(path, _MAX_BYTES), _MAX_NODES)
    except UnsafeYaml as error:
        raise UserError(f"spec={spec}: it is not valid YAML ({error})") from None
    except OSError as error:
        raise UserError(f"spec={spec}: it cannot be read ({error.strerror})") from None
    if not isinstance(document, dict):
        raise UserError(f"spec={spec}: it holds no keys with values: write lines such as tac: 300")
    return checked(document, f"spec={spec}: "), path


def _spec_path(spec: str) -> Path:
    """Return the file of a spec: one of ours by name, any other by a path that ends in .yaml or .yml."""
    if spec.endswith((".yaml", ".yml")):
        path = input_path(spec, "spec")
        if not path.exists():
            raise UserError(f"spec={spec}: there is no such file; there are the specs {', '.join(spec_names())}")
        return path
    names = spec_names()
    if spec not in names:
        close_matches = difflib.get_close_matches(spec, names, n=1)
        hint = f"did you mean {close_matches[0]}? " if close_matches else ""
        raise UserError(f"there is no spec {spec!r}: {hint}there are {', '.join(names)}, or a path to a .yaml file")
    return shipped_orders() / f"{spec}.yaml"


def _beside(name: str | None, spec: Path | None) -> str | None:
    """Return the press' profile that a spec names: a built-in one, or a file in the spec's own directory.

    A spec may come from anybody, so it names no other files.
    """
    if name is None or spec is None or name == _BUILT_IN_PRESS:
        return name
    if Path(name).name != name or name in ("", ".", "..") or "\\" in name or ":" in name:
        raise UserError(
            f"spec={spec}: profile: {name}: a spec names cmyk or a file beside it: for any other say spec.profile=PATH"
        )
    return str(spec.parent / name)


def _press_profile(text: str) -> Profile:
    profile = read_profile(text, "spec.profile")
    if profile.space != "CMYK":
        raise UserError(f"spec.profile={text}: it is a profile of {profile.space}: name the profile of a press, CMYK")
    return profile
