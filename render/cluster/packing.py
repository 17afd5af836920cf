"""A job packed for a cluster: its config in one file, and the local files that it names."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from render.config.formats import FORMATS
from render.config.hydra_text import literals
from render.config.objective_files import OBJECTIVE_FILE_KEYS
from render.config.root_kinds import check_job
from render.config.schema import MATCH_SOURCE, Config
from render.errors import UserError
from render.storage.url import checked_url, is_url
from render.storage.user_paths import user_path

#: Name of the config file in the job's working directory.
JOB_FILE = "job.yaml"
#: Largest size of a job's files together: every node gets a copy, through the head's memory.
MAX_BYTES = 100_000_000

_INPUTS = "inputs"
#: Colour profiles that are part of the program.
_BUILT_IN_PROFILES = ("srgb", "p3", "cmyk")


def portable_settings(config: Config, *, shared: bool) -> tuple[dict[str, Any], dict[str, Path]]:
    """Return a job's settings for a cluster, and the files that go with it.

    Args:
        config: The job. Its `farm.address` is set.
        shared: Absolute paths are those of the cluster's shared file system, and stay.

    Returns:
        The settings as plain data, and the files by their names in the job's directory.

    Raises:
        UserError: A file does not exist, the run directory or a picture would be left on a node, or the files are too
            large together.
    """
    if config.farm.address is not None:
        raise UserError(f"farm.address={config.farm.address}: a job joins the cluster that it is sent to; drop it")
    config.farm.address = "auto"
    check_job(config)
    _check_outputs(config, shared=shared)
    files: dict[str, Path] = {}

    def pack_file(key: str, text: str) -> str:
        """Add the file that `key=text` names to the job; return its name there."""
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
        settings["image"] = _pack_picture("image", settings["image"], pack_file)
    settings["objective"] = _pack_files("objective", settings["objective"], pack_file)
    names_of = (("model", "weights", ()), ("model", "labels", ()), ("output", "profile", _BUILT_IN_PROFILES))
    for section, key, names in names_of:
        value = settings[section][key]
        if value is not None and value not in names:
            settings[section][key] = pack_file(f"{section}.{key}", value)
    match = settings["output"]["match"]
    if match not in (None, MATCH_SOURCE):
        settings["output"]["match"] = _pack_picture("output.match", match, pack_file)
    _check_size(files)
    return settings, files


def pack(settings: dict[str, Any], files: dict[str, Path], directory: Path) -> None:
    """Write the job's working directory: `job.yaml` with all settings, and the files."""
    # JSON is valid YAML and marks text clearly, such as "1e5", "on" and "null".
    text = json.dumps(literals(settings), ensure_ascii=False, indent=1)
    (directory / JOB_FILE).write_text(text + "\n", encoding="utf-8")
    for name, path in files.items():
        copy = directory / name
        copy.parent.mkdir(parents=True)
        shutil.copyfile(path, copy)


def _check_size(files: dict[str, Path]) -> None:
    """Raise `UserError` if the files are too large together."""
    sizes = {path: path.stat().st_size for path in files.values()}
    if sum(sizes.values()) > MAX_BYTES:
        largest = max(sizes, key=lambda path: sizes[path])
        raise UserError(
            f"{largest} has {sizes[largest] / 1e6:.0f} MB, and a job brings at most {MAX_BYTES / 1e6:.0f} MB along: put it "
            "into the bucket and name its URL"
        )


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


def _pack_picture(key: str, text: str, pack_file: Callable[[str, str], str]) -> str:
    return text if text.startswith("sample:") else pack_file(key, text)


def _pack_files(key: str, value: Any, pack_file: Callable[[str, str], str]) -> Any:
    """Return a part of an objective's settings with the files that it names by their new names."""
    if isinstance(value, list):
        return [_pack_files(f"{key}[{number}]", part, pack_file) for number, part in enumerate(value)]
    if not isinstance(value, dict):
        return value
    return {
        inner: _pack_picture(f"{key}.{inner}", part, pack_file)
        if inner in OBJECTIVE_FILE_KEYS and isinstance(part, str)
        else _pack_files(f"{key}.{inner}", part, pack_file)
        for inner, part in value.items()
    }
