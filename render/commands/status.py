"""Command `status`: print the state of a sweep or a run, or of a cluster."""

from __future__ import annotations

from collections.abc import Sequence

from render.config.options import check_switches, split_words, take_json
from render.errors import UserError
from render.storage.url import checked_url
from render.storage.user_paths import user_path


def status_command(words: Sequence[str]) -> int:
    """Print the state of the sweep, run or cluster that the words name.

    Returns:
        The exit code: 0, or 1 if a point or the run failed or its process is gone.

    Raises:
        UserError: If the directory has no readable sweep or run, or a word is unknown.
    """
    if any(word.startswith("cluster=") for word in words):
        from render.commands.clusters import cluster_status_command

        return cluster_status_command(words)
    as_json, other_words = take_json(words)
    options, unknown_words = split_words(other_words, {"run": "", "watch": "false"})
    if unknown_words:
        raise UserError(f"status does not know {unknown_words[0]!r}: give it run=DIR, and perhaps watch=true or json=true")
    if not options["run"]:
        raise UserError("status needs the directory of a sweep or a run: run=sweeps/NAME")
    check_switches(options, ["watch"])
    # These draw with rich, which is slow to import. A wrong word is refused before.
    from render.sweeps.directory_status import print_status

    place = checked_url(options["run"], "run") or user_path(options["run"], "run")
    return print_status(place, watch=options["watch"] == "true", as_json=as_json)
