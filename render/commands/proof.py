"""Command `proof run=DIR profile=FILE`: show on the screen what a press makes of a run's picture."""

from __future__ import annotations

from collections.abc import Sequence

from render.config.formats import names_of, suffix_of
from render.config.options import check_switches, split_words
from render.config.schema import INTENTS, RELATIVE
from render.errors import UserError
from render.job import report
from render.job.progress import say
from render.job.proofing import ProofRequest, write_proof
from render.storage.url import checked_url
from render.storage.user_paths import user_path
from render.system import interrupts

_OPTIONS = {
    "run": "", "profile": "", "intent": RELATIVE, "paper": "false", "width": "1600", "to": "proof.png",
    "overwrite": "false",
}  # fmt: skip
#: Longest side of a proof, px: it is held in memory.
_MAX_SIDE = 8000


def proof_command(words: Sequence[str]) -> int:
    """Write the proof that the words ask for, and print how much of the picture the press cannot follow."""
    request = parse(words)
    report.start_logging(quiet=True)
    # An exception cannot pass through libvips: it is raised where the canvas is read.
    interrupts.hold()
    with interrupts.deferred(quiet=True):
        result = write_proof(request, lambda line: say(line, quiet=False))
        say(
            f"{100 * result.beyond:.1f} % of the picture has colours that {request.profile} lacks: {request.warning_path}",
            str(request.path),
            quiet=False,
        )
    interrupts.check()
    return 0


def parse(words: Sequence[str]) -> ProofRequest:
    """Return the request that the command's words make. Raise `UserError` for wrong words."""
    options, unknown_words = split_words(words, _OPTIONS)
    if unknown_words:
        raise UserError(f"proof does not know {unknown_words[0]!r}: it takes {', '.join(f'{key}=' for key in _OPTIONS)}")
    check_switches(options, ["paper", "overwrite"])
    if not options["run"] or not options["profile"]:
        raise UserError("proof needs a run and a profile: run=dreams/NAME profile=press.icc (or p3, cmyk)")
    if options["intent"] not in INTENTS:
        raise UserError(f"intent={options['intent']}: must be {names_of(INTENTS)}")
    width = options["width"]
    side = int(width) if width.isascii() and width.isdigit() and len(width) < 10 else 0
    if not 1 <= side <= _MAX_SIDE:
        raise UserError(f"width={width}: must be from 1 to {_MAX_SIDE} px")
    path = user_path(options["to"], "to")
    if suffix_of(path.name) != "png":
        raise UserError(f"to={options['to']}: must end in .png")
    if not path.parent.is_dir():
        raise UserError(f"to={options['to']}: its directory does not exist")
    return ProofRequest(
        run=checked_url(options["run"], "run") or user_path(options["run"], "run"),
        profile=options["profile"],
        intent=options["intent"],
        side=side,
        paper=options["paper"] == "true",
        path=path,
        overwrite=options["overwrite"] == "true",
    )
