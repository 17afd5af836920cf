"""Command `view run=DIR [profile=FILE] [port=NUMBER] [open=false]`: show a run or a film in the browser."""

from __future__ import annotations

import os
import re
import sys
import threading
import webbrowser
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from render.config.formats import names_of
from render.config.options import check_switches, split_words
from render.config.schema import INTENTS, RELATIVE
from render.errors import UserError
from render.job.proofing import proof_profile
from render.job.run_record import read_run
from render.pages import openseadragon
from render.storage.url import checked_url
from render.storage.user_paths import user_path
from render.system import interrupts
from render.viewer.film_server import serving_film
from render.viewer.live_film import LiveFilm, is_film
from render.viewer.live_run import LiveRun
from render.viewer.server import LoopbackServer, serving
from render.viewer.tile_proof import TileProof

_MAX_PORT = 65535
_OPTIONS = {"run": "", "profile": "", "intent": RELATIVE, "paper": "false", "port": "0", "open": "true"}


def view_command(words: Sequence[str], say: Callable[[str], None] = print) -> int:
    """Serve a run or a film until interrupted.

    Args:
        words: `run=DIR`, and perhaps `profile=FILE` (a soft proof for it, with `intent=` and `paper=true`), `port=NUMBER`
            (0, the default, takes a free port) and `open=false` (do not open the browser).
        say: prints a line for the user.

    Raises:
        UserError: if the words are wrong, there is no such run, or the port is taken.
    """
    options = _options(words)
    url = checked_url(options["run"], "run")
    if url is not None:
        raise UserError(f"run={url} is not on this machine: make fetch run={url} canvas=true brings it")
    directory, port, proof = user_path(options["run"], "run"), _port(options["port"]), _proof(options)
    with _film_server(directory, port, proof) or _run_server(directory, port, proof, say) as server:
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


def _film_server(directory: Path, port: int, proof: TileProof | None) -> LoopbackServer | None:
    """Return the server of a film's directory; None if the directory is no film's."""
    if not is_film(read_run(directory).record):
        return None
    if proof is not None:
        raise UserError(f"run={directory} is a film, which no press prints: drop profile=")
    return serving_film(LiveFilm(directory), port)


def _run_server(directory: Path, port: int, proof: TileProof | None, say: Callable[[str], None]) -> LoopbackServer:
    """Return the server of a run directory."""
    run, script = LiveRun(directory, proof), None
    try:
        script = openseadragon.load().script
    except UserError as error:
        say(f"the page can show no more than this: {error}; {openseadragon.OVERRIDE}=FILE names an openseadragon.min.js")
    return serving(run, script, port)


def _options(words: Sequence[str]) -> dict[str, str]:
    options, unknown_words = split_words(words, _OPTIONS)
    if unknown_words:
        raise UserError(f"view does not know {unknown_words[0]!r}: it takes {', '.join(f'{key}=' for key in _OPTIONS)}")
    if not options["run"]:
        raise UserError("view needs a run directory: run=dreams/NAME")
    check_switches(options, ["open", "paper"])
    return options


def _proof(options: Mapping[str, str]) -> TileProof | None:
    """Return the soft proof that the words ask for; None for none. Raise `UserError` for a profile that shows nothing."""
    if not options["profile"]:
        if options["paper"] == "true" or options["intent"] != RELATIVE:
            raise UserError("intent= and paper= belong to a soft proof: name its profile=press.icc (or p3, cmyk)")
        return None
    if options["intent"] not in INTENTS:
        raise UserError(f"intent={options['intent']}: must be {names_of(INTENTS)}")
    return TileProof(proof_profile(options["profile"]), options["intent"], options["paper"] == "true")


def _port(text: str) -> int:
    if not re.fullmatch(r"\d{1,5}", text) or int(text) > _MAX_PORT:
        raise UserError(f"port={text}: must be a number from 0 (any that is free) to {_MAX_PORT}")
    return int(text)


def _open_browser(url: str) -> None:
    """Open the browser if there is a screen: a text browser would take the terminal."""
    if sys.platform == "linux" and not (os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")):
        return
    threading.Thread(target=webbrowser.open, args=(url,), daemon=True).start()
