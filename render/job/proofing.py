"""Soft proofs of a run's canvas for a press' profile."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from render.errors import UserError
from render.export.export import extended_canvas, working_image
from render.export.metadata import Metadata
from render.export.picture import image_of, write_picture
from render.export.profile import Profile, read_profile
from render.export.soft_proof import Proof, proof
from render.job.colour_reference import open_reference
from render.job.pictures import Say, explain_damage, measure_colours, say_of_colours, style_of
from render.job.reexport import exported_config, refuse_unknown_match, unfinished_text, whole_record
from render.job.run_directory import RunDirectory
from render.job.wide_pictures import find_wide_source
from render.storage.url import Place


@dataclass(frozen=True)
class ProofRequest:
    """A soft proof that a user asks for.

    Attributes:
        run: Run directory, or its URL.
        profile: `p3`, `cmyk`, or the path of an .icc file.
        intent: Rendering intent.
        side: Longest side of the pictures, px.
        paper: True to show the paper's white and the ink's black.
        path: PNG file of the proof; the warning lies beside it.
        overwrite: True to replace files that exist.
    """

    run: Place
    profile: str
    intent: str
    side: int
    paper: bool
    path: Path
    overwrite: bool

    @property
    def warning_path(self) -> Path:
        """PNG file of the warning."""
        return self.path.with_name(f"{self.path.stem}-gamut.png")


def proof_profile(name: str) -> Profile:
    """Return the profile to prove for; raise `UserError` for one that shows nothing.

    Args:
        name: `p3`, `cmyk`, or the path of an .icc file.
    """
    profile = read_profile(name, "profile")
    if profile.is_srgb or profile.is_link:
        reason = "is what the canvas is in" if profile.is_srgb else "is a device link, which says nothing of how inks look"
        raise UserError(f"profile={name} {reason}: name the profile of a press, printer or display")
    return profile


def write_proof(request: ProofRequest, say: Say) -> Proof:
    """Write the soft proof of a run's newest canvas and its gamut warning, as PNG files.

    Raises:
        UserError: The run, its source or the profile cannot be read, or a file exists.
    """
    for path in (request.path, request.warning_path):
        if path.exists() and not request.overwrite:
            raise UserError(f"to={path} exists: name another file, or add overwrite=true")
    profile = proof_profile(request.profile)
    record = whole_record(request.run)
    config = exported_config(record, [])
    config = replace(config, output=replace(config.output, dir=str(request.run), profile=request.profile))
    refuse_unknown_match(request.run, config, record, [])
    reference = open_reference(config, record["image_sha256"], recorded=True)
    search = find_wide_source(config, profile, record["image_sha256"])
    directory = RunDirectory(config, record.get("identity", {}), record["digest"])
    with explain_damage():
        canvas = directory.canvas()
    newest = directory.newest()
    if record["status"] != "finished" and newest is not None:
        say(unfinished_text(newest))
    say_of_colours(config, search, say)
    style = style_of(config, profile, record, reference, search.source)
    style = measure_colours(replace(style, intent=request.intent), directory.targets, canvas, config, say, reference)
    with (
        explain_damage(),
        extended_canvas(canvas, style, "tiff", request.path.parent) as extended,
        working_image(extended, style.colour, 16) as (picture, space),
    ):
        shrink = min(1.0, request.side / max(canvas.shape))
        small = picture.image.resize(shrink) if shrink < 1 else picture.image
        result = proof(small, profile, request.intent, space, paper=request.paper)
        picture.check()
    for path, pixels in ((request.path, result.shown), (request.warning_path, result.warning)):
        write_picture(path, image_of(pixels), "png", Metadata(title=style.metadata.title), keep=not request.overwrite)
    return result
