"""Command `view run=DIR [port=NUMBER] [open=false]`: show a run or a film in the browser."""

from __future__ import annotations

import os
import re
import sys
import threading
import webbrowser
from collections.abc import Callable, Sequence
from pathlib import Path

from render.config.options import check_switches, split_words
from render.errors import UserError
from render.job.run_record import read_run
from render.pages import openseadragon
from render.storage.url import checked_url
from render.storage.user_paths import user_path
from render.system import interrupts
from render.viewer.film_server import serving_film
from render.viewer.live_film import LiveFilm, is_film
from render.viewer.live_run import LiveRun
from render.viewer.server import LoopbackServer, serving

_MAX_PORT = 65535


def view_command(words: Sequence[str], say: Callable[[str], None] = print) -> int:
    """Serve a run or a film until interrupted.

    Args:
        words: `run=DIR`, and perhaps `port=NUMBER` (0, the default, takes a free port) and `open=false` (do not open the
            browser).
        say: prints a line for the user.

    Raises:
        UserError: if the words are wrong, there is no such run, or the port is taken.
    """
    options = _options(words)
    url = checked_url(options["run"], "run")
    if url is not None:
        raise UserError(f"run={url} is not on this machine: make fetch run={url} canvas=true brings it")
    directory, port = user_path(options["run"], "run"), _port(options["port"])
    with _film_server(directory, port) or _run_server(directory, port, say) as server:
        say(f"{options['run']} is shown at {server.url} (Ctrl-C ends it)")
        sys.stdout.flush()
        if options["open"] == "true":
            _open_browser(server.url)
        interrupts.hold()
        try:
            server.serve_forever()
        except KeyboardInterrupt:
            return 0
    return 0


def _film_server(directory: Path, port: int) -> LoopbackServer | None:
    """Return the server of a film's directory; None if the directory is no film's."""
    if not is_film(read_run(directory).record):
        return None
    return serving_film(LiveFilm(directory), port)


def _run_server(directory: Path, port: int, say: Callable[[str], None]) -> LoopbackServer:
    """Return the server of a run directory."""
    run, script = LiveRun(directory), None
    try:
        script = openseadragon.load().script
    except UserError as error:
        say(f"the page can show no more than this: {error}; {openseadragon.OVERRIDE}=FILE names an openseadragon.min.js")
    return serving(run, script, port)


def _options(words: Sequence[str]) -> dict[str, str]:
    options, unknown_words = split_words(words, {"run": "", "port": "0", "open": "true"})
    if unknown_words:
        raise UserError(f"view does not know {unknown_words[0]!r}: give it run=DIR, and perhaps port=8000 or open=false")
    if not options["run"]:
        raise UserError("view needs a run directory: run=dreams/NAME")
    check_switches(options, ["open"])
    return options


def _port(text: str) -> int:
    if not re.fullmatch(r"\d{1,5}", text) or int(text) > _MAX_PORT:
        raise UserError(f"port={text}: must be a number from 0 (any that is free) to {_MAX_PORT}")
    return int(text)


def _open_browser(url: str) -> None:
    """Open the browser if there is a screen: a text browser would take the terminal."""
    if sys.platform == "linux" and not (os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")):
        return
    threading.Thread(target=webbrowser.open, args=(url,), daemon=True).start()
