"""Command `fetch run=URL [to=DIR]`: copy a run from an object store."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from render.config.options import check_switches, split_words
from render.errors import UserError
from render.job.progress import say
from render.job.run_download import fetch_run
from render.storage.url import checked_url, last_name
from render.storage.user_paths import user_path
from render.system import interrupts

_SWITCHES = ("pictures", "canvas", "overwrite", "quiet")


def fetch_command(words: Sequence[str]) -> int:
    """Fetch a run, and print the paths of its pictures or of its directory."""
    options = _options(words)
    url = checked_url(options["run"], "run")
    if url is None:
        raise UserError(f"run={options['run']} is on a disk already: fetch takes a URL, such as s3://bucket/dreams/poster")
    directory = user_path(options["to"], "to") if options["to"] else Path("dreams") / str(last_name(url))
    switches = {key: options[key] == "true" for key in _SWITCHES}
    quiet = switches.pop("quiet")
    interrupts.hold()
    say(*map(str, fetch_run(url, directory, lambda line: say(line, quiet=quiet), **switches)), quiet=quiet)
    return 0


def _options(words: Sequence[str]) -> dict[str, str]:
    options, unknown_words = split_words(words, {"run": "", "to": "", **dict.fromkeys(_SWITCHES, "false")})
    if unknown_words:
        raise UserError(
            f"fetch does not know {unknown_words[0]!r}: give it run=URL, and perhaps to=DIR, pictures=true or canvas=true"
        )
    if not options["run"]:
        raise UserError("fetch needs a run in an object store: run=s3://bucket/dreams/poster")
    check_switches(options, _SWITCHES)
    return options
