"""A job packed for a cluster: its whole config in one file, beside the local files that the config names."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from render.config.compose import check_job
from render.config.formats import FORMATS
from render.config.hydra_text import literal
from render.config.schema import Config
from render.errors import UserError
from render.storage.url import checked_url, is_url
from render.storage.user_paths import user_path

#: Name of the config file in the job's working directory.
JOB_FILE = "job.yaml"
#: Most bytes of a job's files: every node gets a copy, through the head's memory.
MOST_BYTES = 100_000_000

_INPUTS = "inputs"
#: Keys of an objective that name files.
_FILES = ("mask", "image", "guide", "direction")
_PROFILES = ("srgb", "p3", "cmyk")


def travelling(config: Config, *, shared: bool) -> tuple[dict[str, Any], dict[str, Path]]:
    """Return a job's settings for a cluster, as plain data, and its files by their names in the job's directory.

    With `shared`, absolute paths are the cluster's own and stay. Sets `farm.address` in `config`. Raises `UserError`
    for a file that is not here, for a run directory or picture that would be left on a node, and for files that are
    too large together.
    """
    if config.farm.address is not None:
        raise UserError(f"farm.address={config.farm.address}: a job joins the cluster that it is sent to; drop it")
    config.farm.address = "auto"
    check_job(config)
    _check_outputs(config, shared=shared)
    files: dict[str, Path] = {}

    def moved(key: str, text: str) -> str:
        if is_url(text) or (shared and text.startswith("/")):
            return text
        path = user_path(text, key)
        if not path.is_file():
            hint = "" if shared else "; files of the cluster's are named by URL, or by absolute paths with shared=true"
            raise UserError(f"{key}={text}: there is no such file{hint}")
        name = next((name for name, packed in files.items() if packed == path), f"{_INPUTS}/{len(files)}/{path.name}")
        files[name] = path
        return name

    settings = asdict(config)
    if settings["image"] != "noise":
        settings["image"] = _moved_picture("image", settings["image"], moved)
    settings["objective"] = _moved_files("objective", settings["objective"], moved)
    for section, key, names in (("model", "weights", ()), ("output", "profile", _PROFILES)):
        value = settings[section][key]
        if value is not None and value not in names:
            settings[section][key] = moved(f"{section}.{key}", value)
    sizes = {name: path.stat().st_size for name, path in files.items()}
    if sum(sizes.values()) > MOST_BYTES:
        largest = max(sizes, key=lambda name: sizes[name])
        raise UserError(
            f"{files[largest]} has {sizes[largest] / 1e6:.0f} MB, and a job brings at most {MOST_BYTES / 1e6:.0f} MB "
            "along: put it into the bucket and name its URL"
        )
    return settings, files


def pack(settings: dict[str, Any], files: dict[str, Path], directory: Path) -> None:
    """Fill the job's working directory: `job.yaml`, a root config that holds all settings, and the files."""
    # JSON is valid YAML and marks text clearly, such as "1e5", "on" and "null".
    text = json.dumps(_plain(settings), ensure_ascii=False, indent=1)
    (directory / JOB_FILE).write_text(text + "\n", encoding="utf-8")
    for name, path in files.items():
        place = directory / name
        place.parent.mkdir(parents=True)
        shutil.copyfile(path, place)


def _check_outputs(config: Config, *, shared: bool) -> None:
    output = config.output
    remedy = (
        "name a place in an object store, such as s3://BUCKET/dreams/poster, or an absolute path on the cluster's shared "
        "file system with shared=true"
    )
    if output.dir is None:
        raise UserError(f"a job on a cluster needs output.dir: {remedy}")
    paths = [("output.dir", output.dir), *([("output.path", output.path)] if output.path else [])]
    paths += [("output.also", also) for also in output.also if also not in FORMATS]
    for key, text in paths:
        if checked_url(text, key) is None and not (shared and text.startswith("/")):
            raise UserError(f"{key}={text} would be left on a node of the cluster: {remedy}")


def _moved_picture(key: str, text: str, moved: Callable[[str, str], str]) -> str:
    return text if text.startswith("sample:") else moved(key, text)


def _moved_files(key: str, value: Any, moved: Callable[[str, str], str]) -> Any:
    """Return a part of an objective's settings with the new paths of the files that it names."""
    if isinstance(value, list):
        return [_moved_files(f"{key}[{number}]", part, moved) for number, part in enumerate(value)]
    if not isinstance(value, dict):
        return value
    return {
        inner: _moved_picture(f"{key}.{inner}", part, moved)
        if inner in _FILES and isinstance(part, str)
        else _moved_files(f"{key}.{inner}", part, moved)
        for inner, part in value.items()
    }


def _plain(value: Any) -> Any:
    """Return the value with its text escaped, so that OmegaConf does not interpolate it."""
    if isinstance(value, dict):
        return {key: _plain(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(part) for part in value]
    return literal(value) if isinstance(value, str) else value
