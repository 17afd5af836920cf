"""Command `sheet`: one labelled contact sheet of a sweep or of several runs, rendered first if need be."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from render.config.formats import format_of
from render.config.options import check_switches, split_words
from render.errors import UserError
from render.storage.user_paths import user_path

#: Formats of a sheet.
_FORMATS = ("png", "jpeg", "webp")
_OPTIONS = {
    "run": "", "to": "sheet.webp", "width": "1600", "kilobytes": "", "rows": "", "columns": "", "title": "",
    "overwrite": "false",
}  # fmt: skip


def sheet_command(root: str, words: Sequence[str]) -> int:
    """Draw a contact sheet: of the sweep or the runs that `run=` names, or of the sweep that the other words define.

    Returns:
        The exit code: 0, or 1 if a point of a sweep failed.

    Raises:
        UserError: Before anything is rendered, for words that do not make a sheet.
    """
    options, other_words = split_words(words, _OPTIONS)
    check_switches(options, ["overwrite"])
    path, format_name = _target(options["to"], overwrite=options["overwrite"] == "true")
    width, kilobytes = _whole(options, "width"), _whole(options, "kilobytes") if options["kilobytes"] else None
    if "run=" in words:
        raise UserError("run= has no value: name the directory of a sweep, or of runs with commas between")
    if options["run"] and other_words:
        raise UserError(f"sheet run={options['run']} draws what is rendered already: drop {other_words[0]}, or run=")
    from render.sweeps.gallery.recorded_exhibition import run_exhibition, sweep_exhibition
    from render.sweeps.gallery.single_sheet import MAX_WIDTH, MIN_WIDTH, write_single_sheet
    from render.sweeps.monitor.sweep_record import SWEEP

    if not MIN_WIDTH <= width <= MAX_WIDTH:
        raise UserError(f"width={width}: must be from {MIN_WIDTH} to {MAX_WIDTH} px")
    code = 0
    if options["run"]:
        directories = [user_path(name, "run") for name in options["run"].split(",")]
        missing = [directory for directory in directories if not directory.is_dir()]
        if missing:
            raise UserError(f"run={missing[0]}: there is no such directory")
    else:
        directory, code = _swept(root, other_words)
        directories = [directory]
    if len(directories) == 1 and (directories[0] / SWEEP).exists():
        base = directories[0]
        exhibition = sweep_exhibition(base, options["rows"], options["columns"], options["title"])
    else:
        base = Path()
        exhibition = run_exhibition(directories, options["title"])
    max_bytes = kilobytes * 1000 if kilobytes is not None else None
    quality = write_single_sheet(path, format_name, exhibition, base, width, max_bytes)
    quality_text = "" if format_name == "png" else f" at quality {quality}"
    print(f"{path}: {len(exhibition.points)} pictures, {path.stat().st_size / 1000:,.0f} kB{quality_text}")
    return code


def _swept(root: str, words: Sequence[str]) -> tuple[Path, int]:
    """Render the missing points of a sweep; return its directory and exit code."""
    from render.sweeps.breeding.generation import define_sweep
    from render.sweeps.sweep import render_sweep
    from render.sweeps.sweep_directory import sweep_path

    definition = define_sweep(root, words)
    return sweep_path(definition), render_sweep(definition, words)


def _target(name: str, *, overwrite: bool) -> tuple[Path, str]:
    """Return the file to write and its format. Raise `UserError` if it is none of a sheet, or exists."""
    path = user_path(name, "to")
    format_name = format_of(path.name)
    if format_name not in _FORMATS:
        raise UserError(f"to={name}: must end in .png, .jpg or .webp")
    if path.is_dir() or not path.parent.is_dir():
        raise UserError(f"to={name}: {'it is a directory' if path.is_dir() else 'its directory does not exist'}")
    if path.exists() and not overwrite:
        raise UserError(f"to={name} exists: name another file, or add overwrite=true")
    return path, format_name


def _whole(options: dict[str, str], key: str) -> int:
    """Return a whole number above 0. Raise `UserError` for anything else."""
    text = options[key]
    if not (text.isascii() and text.isdigit() and 0 < len(text) < 8 and int(text) > 0):
        raise UserError(f"{key}={text}: must be a whole number above 0")
    return int(text)
