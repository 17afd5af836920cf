"""Command line: `python -m render [render|plan|models|...] [conf=NAME] [key=value ...]`.

`make` passes its key=value arguments in the environment variable RENDER_OVERRIDES, with the escapes of GNU make's
MAKEOVERRIDES, so that no shell splits or expands them.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from render.errors import NodeLost, RenderError, UserError, WorkersLost
from render.system import interrupts
from render.system.surroundings import settle_warnings
from render.terminal.lines import print_lines
from render.terminal.streams import accept_any_text, outlast

if TYPE_CHECKING:
    from render.config.schema import Config

_USAGE = """\
usage: python -m render [COMMAND] [conf=NAME] [key=value ...]

commands
  render   dream a picture (default)
  export   write a run's canvas to other files: export run=DIR output.format=bigtiff
  fetch    bring a run from an object store: fetch run=s3://bucket/dreams/poster [to=DIR] [pictures=true] [canvas=true]
  probe    dream a class and say what the network sees before and after: probe class=dumbbell [model=googlenet]
  plan     say what a render or a sweep would do and take, and refuse what cannot work
  models   list the networks and their layers
  objectives
           list what can be dreamed of, and the presets: objective=NAME
  classes  list what a network can tell apart: classes model=googlenet [words=dog]
  atlas    see inside a network: what each channel of a layer likes, atlas layer=mixed4 channels=0-63, or, without a
           layer, what each layer does to a picture, atlas model=googlenet image=me.jpg
  settings print the settings inside a finished picture: settings image=dream.png
  sweep    render a grid of pictures, and a page to choose from: sweep conf=layers, sweep step_size=1,2,4 image=photos/*.jpg
           -m says the same; exit code 1 if any failed
  preflight
           say what a print shop asks of a picture: preflight file=dream.tif [run=DIR] [tile=PX] [json=true]
  view     show a run in the browser, also while it is going: view run=dreams/NAME [port=8000] [open=false]
  status   say how a sweep or a run stands: status run=DIR [watch=true]; exit code 1 if anything failed
  cluster-up, cluster-status, cluster-down
           start a cluster, say how it stands, end it: cluster=NAME; NAME is one of cluster/, a .yaml or .sh file, local, or
           the http address of a Ray dashboard
  submit   render on a cluster that goes on without this machine: submit cluster=NAME conf=poster output.dir=s3://BUCKET/poster
           [follow=false] [shared=true]; Ctrl-C detaches
  attach   follow a submitted job again: attach cluster=NAME [job=ID]
  stop     have a submitted job save its canvas and end: stop cluster=NAME [job=ID]

conf=NAME names a config in conf/ (default: preview; of probe, probe), or a path to a YAML file of your own.
Every other key=value changes a key of that config, such as image=me.jpg octaves.steps=20."""

_COMMANDS = (
    "render", "export", "probe", "sweep", "plan", "models", "objectives", "classes", "atlas", "settings", "preflight",
    "view", "status", "fetch", "cluster-up", "cluster-status", "cluster-down", "submit", "attach", "stop",
)  # fmt: skip
_OF_CLUSTERS = _COMMANDS[-6:]
_DEFAULT_ROOTS = {"atlas": "atlas", "probe": "probe"}
_DEFAULT_ROOT = "preview"
#: Variables of the Makefile that a user may set besides the keys of a config.
_MAKEFILE_VARIABLES = ("PYTHON", "EXTRAS", "VENV")
#: Hydra's flags for a sweep.
_MULTIRUN = ("-m", "--multirun")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; return its exit code: 0, 1 if a part failed, 2 for a user error, 130 if interrupted."""
    words = list(sys.argv[1:] if arguments is None else arguments) + make_overrides(os.environ.get("RENDER_OVERRIDES", ""))
    if any(word in ("-h", "--help", "help") for word in words):
        print(_USAGE)
        return 0
    accept_any_text()
    outlast()
    settle_warnings()
    interrupts.install()
    try:
        command, root, overrides = split_arguments(words)
        return _run_again(command, root, overrides)
    except WorkersLost as error:
        print_lines(f"render: a worker was lost: {error}; run the command again", file=sys.stderr)
        return 2
    except RenderError as error:
        print_lines(f"render: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt as interrupt:
        print_lines(f"render: {str(interrupt) or 'interrupted'}", file=sys.stderr)
        return interrupts.EXIT_CODE


def _run_again(command: str, root: str, overrides: list[str]) -> int:
    """Run a command; if Ray itself ends on the way, run it once more, which continues from the last checkpoint."""
    try:
        return _run(command, root, overrides)
    except NodeLost as lost:
        if interrupts.is_asked():
            raise
        print_lines(f"render: {lost}: starting Ray anew to go on", file=sys.stderr)
    # The first attempt has already started over, so the second one must resume it.
    return _run(command, root, ["fresh=false" if word.startswith("fresh=") else word for word in overrides])


def split_arguments(words: Sequence[str]) -> tuple[str, str, list[str]]:
    """Return command, root config and overrides from the command line's words. Raise `UserError`."""
    command, root, overrides = "render", "", []
    multirun_flags = [word for word in words if word in _MULTIRUN]
    for position, word in enumerate(word for word in words if word not in _MULTIRUN):
        if word.startswith("conf="):
            root = word.removeprefix("conf=")
        elif position == 0 and "=" not in word and not word.startswith("~"):
            command = word
        else:
            overrides.append(word)
    if command not in _COMMANDS:
        raise UserError(f"there is no command {command!r}: choose {', '.join(_COMMANDS)}")
    if multirun_flags:
        if command not in ("render", "sweep", "plan"):
            raise UserError(f"{multirun_flags[0]} renders a grid, and {command} has none: drop it")
        command = "plan a sweep" if command == "plan" else "sweep"
    return command, root or _DEFAULT_ROOTS.get(command, _DEFAULT_ROOT), overrides


def make_overrides(escaped: str) -> list[str]:
    """Return the words in GNU make's MAKEOVERRIDES, without those that set variables of the Makefile.

    make separates the words by spaces. Inside a word it puts a backslash before every space, tab and backslash, doubles
    dollars, and leaves line breaks unchanged (`quote_for_env` in its `main.c`).
    """
    words = (
        re.sub(r"\\(.)", r"\1", word, flags=re.DOTALL)
        for word in re.findall(r"(?:\\.|[^ \t\\])+", escaped.replace("$$", "$"), re.DOTALL)
    )
    return [word for word in words if not word.startswith(tuple(f"{name}=" for name in _MAKEFILE_VARIABLES))]


def _without_a_job(command: str, overrides: list[str]) -> int | None:
    """Run a command that composes no config and return its exit code; return None for other commands."""
    # Import late: printing the usage or refusing a word should not wait for JAX.
    if command == "models":
        from render.commands.listing import print_models

        print_models()
        return 0
    if command == "objectives":
        from render.commands.listing import print_objectives

        print_objectives()
        return 0
    if command == "classes":
        from render.commands.listing import print_classes

        print_classes(_pairs(overrides))
        return 0
    if command == "settings":
        from render.job.report import print_settings

        print_settings(_pairs(overrides).get("image", ""))
        return 0
    if command == "view":
        from render.viewer.server import view

        view(overrides)
        return 0
    if command == "export":
        from render.job import report
        from render.job.reexport import export_command

        report.start_logging(quiet=True)
        export_command(overrides)
        return 0
    if command == "fetch":
        from render.commands.fetch import fetch_command

        fetch_command(overrides)
        return 0
    if command == "preflight":
        from render.commands.preflight import preflight_command

        preflight_command(overrides)
        return 0
    if command == "status":
        from render.sweeps.status import print_status

        return print_status(overrides)
    return None


def _pairs(words: list[str]) -> dict[str, str]:
    return dict(word.partition("=")[::2] for word in words)


def _of_clusters(command: str, root: str, words: list[str]) -> int | None:
    """Run a command about a cluster and return its exit code; return None for other commands."""
    if command == "status" and any(word.startswith("cluster=") for word in words):
        command = "cluster-status"
    if command not in _OF_CLUSTERS:
        return None
    from render.commands.clusters import run_cluster_command

    return run_cluster_command(command, root, words)


def _run(command: str, root: str, overrides: list[str]) -> int:
    sender = os.environ.get("RENDER_SENT_BY")
    if sender is not None:
        from render.cluster.jobs import refuse_other_version

        refuse_other_version(sender)
    try:
        code = _of_clusters(command, root, overrides)
        code = _without_a_job(command, overrides) if code is None else code
        sys.stdout.flush()
    except BrokenPipeError:
        # The reader has closed the pipe, as `head` does. Discard the rest, or flushing at exit would raise an error.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    if code is not None:
        return code
    if command == "atlas":
        _make_atlas(root, overrides)
        return 0
    if command == "probe":
        from render.probe.probe import probe

        probe(root, overrides)
        return 0
    if command == "sweep":
        from render.sweeps.sweep import sweep

        return sweep(root, overrides)
    from render.config.compose import is_sweep, load_config

    if command == "plan a sweep" or (command == "plan" and is_sweep(root, overrides)):
        from render.sweeps.estimate import print_sweep_plan

        print_sweep_plan(root, overrides)
        return 0
    return _render_or_plan(command, load_config(root, overrides))


def _render_or_plan(command: str, config: Config) -> int:
    from render.job import job as jobs
    from render.job import report
    from render.job.progress import say

    interrupts.hold()
    report.start_logging(quiet=config.quiet)
    if command == "plan":
        from render.job.projection import is_projected, print_projection

        if is_projected(config):
            print_projection(config)
            return 0
    if command == "plan" and config.farm.address is None:
        # The inline executor has the same machine and kernels, and starts no Ray.
        config.farm.executor = "inline"
    draft = jobs.draft(config)
    directory = draft.resolved.directory
    if directory.is_finished() and command == "render":
        say("already finished (fresh=true dreams it again)", quiet=config.quiet)
        say(*map(str, jobs.make_again(draft)), quiet=config.quiet)
        return 0
    directory.check()
    if command == "render":
        directory.refuse_busy()
        jobs.say_resumption(draft)
    with jobs.prepared(draft) as job:
        if command == "plan":
            report.print_plan(job, jobs.calibrate(job))
            return 0
        say(report.summary(job), quiet=config.quiet)
        pictures = jobs.render(job)
        say(report.finished(job), *map(str, pictures), quiet=config.quiet)
    return 0


def _make_atlas(root: str, overrides: list[str]) -> None:
    from render.config.compose import ATLAS, load

    config = load(ATLAS, root, overrides)
    from render.atlas.atlas import make_atlas
    from render.job import report
    from render.job.progress import say

    interrupts.hold()
    report.start_logging(quiet=config.quiet)
    say(*map(str, make_atlas(config)), quiet=config.quiet)


if __name__ == "__main__":
    _code = main()
    interrupts.disregard()
    sys.exit(_code)
