"""The table of commands, from which the help text follows.

Listing or refusing a command must not wait for JAX: a command's module is imported when the command runs.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Sequence
from typing import NamedTuple

from render.terminal.line_layout import wrapped

PROGRAM = "python -m render"
DEFAULT_COMMAND, DEFAULT_ROOT = "render", "preview"
#: Flags of Hydra for a grid of jobs.
MULTIRUN_FLAGS = ("-m", "--multirun")
HELP_WORDS = ("-h", "--help", "help")

_ROOT_CONFIG = "config in conf/, or the path of a YAML file of your own; default: "
_CONFIG_WORDS = (
    ("[conf=NAME]", f"{_ROOT_CONFIG}{DEFAULT_ROOT}"),
    ("[key=value ...]", "change of a key of the config, such as image=me.jpg octaves.steps=20"),
)
_CLUSTER = (
    "cluster=NAME",
    "name in cluster/, a file, a Kustomize directory, own, local, or a dashboard's address",
)
_OWN_WORDS = (
    ("[nodes=HOSTS]", "with cluster=own: machines as ssh knows them, with commas between, the head first"),
    (
        "[python=PATH]",
        "cluster=own: interpreter there that has the program; default: as here, or pareidolia's",
    ),
)
_KUBERNETES_WORDS = (
    ("[container=IMAGE]", "image of the containers, on Kubernetes"),
    ("[queue=NAME]", "Kueue's queue for the pods, on Kubernetes"),
    ("[priority=NAME]", "Kueue's priority class in that queue"),
    ("[pull_secret=NAME]", "Secret with the registry's credentials, on Kubernetes"),
    ("[parts=NAMES]", "what it has besides, on Kubernetes: cache, monitoring, redis, rocksdb"),
)
_JOB = ("[job=ID]", "the job; not needed if only one is running")
_JSON = ("[json=true]", "print one JSON document for programs, and nothing else")


class Command(NamedTuple):
    """A command of the command line.

    Attributes:
        summary: its line in the list of commands.
        words: pairs (word, meaning) that the command takes; optional words are in brackets.
        example: words of a typical call.
        function: "module:function" below `render.commands`. It is called with the words, and before them with the root
            config if `root` is not None, and returns the exit code.
        root: default root config; None for commands that compose no config.
        dreams: whether it dreams, for which its process has large pages. It goes on when the reader of its output closes
            the pipe, as `head` does; other commands end then, with success.
    """

    summary: str
    words: tuple[tuple[str, str], ...]
    example: str
    function: str
    root: str | None = None
    dreams: bool = False

    def load(self) -> Callable[..., int]:
        """Import the command's module and return its function."""
        module, _, name = self.function.partition(":")
        function: Callable[..., int] = getattr(importlib.import_module(f"render.commands.{module}"), name)
        return function


COMMANDS: dict[str, Command] = {
    "render": Command(
        "dream a picture (the default command)", _CONFIG_WORDS,
        "look=auto image=me.jpg octaves.steps=20", "render:render_command", "preview", dreams=True,
    ),
    "plan": Command(
        "show what a render, a film or a sweep would do and need, and refuse what cannot work",
        (*_CONFIG_WORDS, ("[-m]", "plan a sweep"), _JSON),
        "conf=poster image=me.jpg", "render:plan_command", "preview",
    ),
    "film": Command(
        "make a film: a zoom, dreamed footage, a flight over a picture, or its growth",
        (
            ("[conf=NAME]", f"{_ROOT_CONFIG}zoom; footage and flight are others"),
            ("[run=DIR]", "with conf=flight: run directory or URL of the picture to fly over"),
            ("[key=value ...]", "change of a key of the config, such as image=me.jpg film.seconds=20"),
        ),
        "conf=zoom image=me.jpg film.seconds=20", "film:film_command", "zoom", dreams=True,
    ),
    "sweep": Command(
        "render a grid of pictures, and a page to choose from; exit code 1 if any failed",
        (
            *_CONFIG_WORDS,
            ("[key=a,b,c ...]", "values of an axis of the grid; `render -m` is the same command"),
            ("[from=FILE]", "with conf=breed: favourites of an earlier sweep, from which new points are bred"),
        ),
        "step_size=1,2,4 image=photos/*.jpg", "render:sweep_command", "preview", dreams=True,
    ),
    "sheet": Command(
        "draw one labelled contact sheet: of a sweep, which is rendered first, or of runs",
        (
            *_CONFIG_WORDS,
            ("[key=a,b,c ...]", "values of the two axes of a sweep, such as objective=dogs,eyes image=a.jpg,b.jpg"),
            ("[run=DIR]", "a sweep, or runs with commas between, that are drawn as they are"),
            ("[to=FILE]", "the file, .webp, .png or .jpg; default: sheet.webp"),
            ("[width=PX]", "width of the sheet; default: 1600"),
            ("[kilobytes=NUMBER]", "largest size of the file; its quality is lowered to keep it"),
            ("[rows=KEY]", "axis along the rows; default: the last but one"),
            ("[columns=KEY]", "axis along the columns; default: the last"),
            ("[title=TEXT]", "title of the sheet; default: the name of the sweep"),
            ("[overwrite=true]", "replace the file if it exists"),
        ),
        "objective=dogs,eyes image=a.jpg,b.jpg to=sheet.webp", "contact_sheet:sheet_command", "preview",
        dreams=True,
    ),
    "export": Command(
        "write a run's canvas to other picture files, without dreaming again",
        (
            ("run=DIR", "run directory, or the URL of a run"),
            ("[output.KEY=VALUE ...]", "what to write, such as output.format=bigtiff or output.path=print.tif"),
            ("[overwrite=true]", "replace pictures that exist"),
            ("[quiet=true]", "print nothing"),
        ),
        "run=dreams/poster-1a2b3c4d output.format=bigtiff", "export_run:export_command",
    ),
    "touch": Command(
        "dream a part of a finished picture again, take it back to its source, or undo that",
        (
            ("run=DIR", "run directory of the finished picture, or the URL of a run"),
            ("[box=X,Y,W,H]", "the part, in px of the picture, per cent (10%,10%,30%,30%) or shares (0.1,0.1,0.3,0.3)"),
            ("[mask=FILE]", "the part, painted white on black over the whole picture, at any size"),
            ("[to=source]", "take it back to the picture that was dreamed on"),
            ("[feather=PX]", "width of the soft edge inside, px or per cent of the part's short side; default: 10%"),
            ("[undo=true]", "take back the newest touch, to the bit; again, the one before"),
            ("[replay=true]", "do the touches of its record again on a canvas dreamed anew, or with DIR another run's"),
            ("[octaves.steps=20 ...]", "change of what is dreamed, such as objective.terms=[mixed4] or look=eyes"),
        ),
        "run=dreams/poster-1a2b3c4d box=10%,20%,30%,30% octaves.steps=20", "touch:touch_command", dreams=True,
    ),
    "fetch": Command(
        "copy a run from an object store to a directory; repeated, it copies only changes",
        (
            ("run=URL", "the run in the object store"),
            ("[to=DIR]", "directory to copy to; default: dreams/NAME"),
            ("[pictures=true]", "copy only the pictures"),
            ("[canvas=true]", "copy the canvas too, which view and export need"),
            ("[overwrite=true]", "replace files that differ"),
            ("[quiet=true]", "print nothing"),
        ),
        "run=s3://bucket/dreams/poster pictures=true", "fetch:fetch_command",
    ),
    "view": Command(
        "show a run or a film in the browser, also while it is rendered",
        (
            ("run=DIR", "directory of a run or a film"),
            ("[profile=FILE]", "soft proof of the run beside it: p3, cmyk or an .icc file; intent= and paper= as in proof"),
            ("[port=NUMBER]", "port of this machine; default: 0, any free port"),
            ("[open=false]", "do not open the browser"),
        ),
        "run=dreams/NAME", "view:view_command",
    ),
    "status": Command(
        "show the state of a sweep, a run or a cluster; exit code 1 if anything failed",
        (
            ("[run=DIR]", "directory of a sweep or a run, or the URL of a run; this or cluster= is needed"),
            ("[watch=true]", "show it until it ends"),
            ("[cluster=NAME]", "show a cluster, as cluster-status does"),
            _JSON,
        ),
        "run=dreams/NAME watch=true", "status:status_command",
    ),
    "preflight": Command(
        "check a picture before it is printed, against an order: exit code 1 if it is not as ordered",
        (
            ("[file=PICTURE]", "the picture to check; this or run= is needed"),
            ("[run=DIR]", "the run that made it; without file=, its own picture is checked"),
            ("[spec=NAME]", "what the shop asks: a file in conf/spec, such as fogra39-tac300, or the path of your own"),
            ("[spec.KEY=VALUE ...]", "a limit of the order, such as spec.tac=300 spec.dpi=200 spec.width_cm=50"),
            ("[tile=PX]", "tile size, or WIDTHxHEIGHT, if the file does not state it"),
            ("[json=true]", "print the report as JSON"),
        ),
        "file=dream.tif spec=fogra39-tac300", "preflight:preflight_command",
    ),
    "proof": Command(
        "show on the screen what a press makes of a run's picture, and where it lacks colours",
        (
            ("run=DIR", "run directory, or the URL of a run"),
            ("profile=FILE", "profile of the press, printer or display: an .icc file, p3 or cmyk"),
            ("[intent=NAME]", "relative, perceptual or absolute; default: relative"),
            ("[paper=true]", "show the paper's white and the ink's black"),
            ("[width=PX]", "longest side of the pictures, at most 8000; default: 1600"),
            ("[to=FILE]", "the proof, a .png; default: proof.png, with the warning in proof-gamut.png"),
            ("[overwrite=true]", "replace the files if they exist"),
        ),
        "run=dreams/poster-1a2b3c4d profile=press.icc", "proof:proof_command",
    ),
    "settings": Command(
        "print the settings that are stored in a finished picture",
        (("image=PICTURE", "a picture that this program made"), ("[json=true]", "change nothing: they are JSON anyway")),
        "image=dream.png", "settings:settings_command",
    ),
    "weights": Command(
        "say where the weights of networks are; fetch them, or check a file of them",
        (
            ("[model=NAME]", "the network whose weights to fetch, unless they are here"),
            ("[model.weights=FILE]", "a file to check; published weights are kept, so that no file is needed any more"),
            _JSON,
        ),
        "model=googlenet", "weight_sources:weights_command",
    ),
    "models": Command("list the networks and their layers", (_JSON,), "", "listing:models_command"),
    "objectives": Command("list the kinds of objectives, and the presets", (_JSON,), "", "listing:objectives_command"),
    "looks": Command("list the looks, with what each shows and needs", (_JSON,), "", "listing:looks_command"),
    "classes": Command(
        "list the classes that a network can tell apart",
        (
            ("[model=NAME]", "the network; default: googlenet"),
            ("[model.weights=FILE]", "weights with a classifier of their own"),
            ("[model.labels=FILE]", "names of its classes, one on each line"),
            ("[words=TEXT]", "list only classes with this text in their name"),
            _JSON,
        ),
        "model=googlenet words=dog", "listing:classes_command",
    ),
    "probe": Command(
        "dream a class, and print what the network sees before and after",
        (
            ("class=NAME", "name or index of the class"),
            ("[method=maco]", "draw it into an atlas of classes, by MACO; keys are those of conf/atlas.yaml"),
            ("[conf=NAME]", f"{_ROOT_CONFIG}probe, or classes with method=maco"),
            _CONFIG_WORDS[1],
        ),
        "class=dumbbell model=googlenet", "probe:probe_command", "probe", dreams=True,
    ),
    "atlas": Command(
        "draw what each channel of a layer responds to, classes, or what each layer does to a picture",
        (
            ("[layer=NAME]", "layer whose channels are drawn; without it, one picture for every layer"),
            ("[channels=LIST]", "channels to draw, such as 0-63 or 3,12; default: all"),
            ("[classes=LIST]", "classes to draw instead, such as [dumbbell,goldfish]; conf=classes is made for them"),
            ("[method=maco]", "draw with the magnitudes of photographs; default: ascent"),
            ("[conf=NAME]", f"{_ROOT_CONFIG}atlas"),
            ("[key=value ...]", "change of a key of the config, such as model=googlenet image=me.jpg"),
        ),
        "layer=mixed4 channels=0-63", "atlas:atlas_command", "atlas", dreams=True,
    ),
    "cluster-up": Command(
        "start a cluster", (_CLUSTER, *_OWN_WORDS, *_KUBERNETES_WORDS),
        "cluster=aws-gpu", "clusters:cluster_up_command",
    ),
    "cluster-status": Command(
        "show the nodes and the jobs of a cluster", (_CLUSTER, _JSON),
        "cluster=aws-gpu", "clusters:cluster_status_command",
    ),
    "cluster-down": Command(
        "end a cluster", (_CLUSTER, *_OWN_WORDS, ("[parts=NAMES]", "also its parts, on Kubernetes")), "cluster=aws-gpu",
        "clusters:cluster_down_command",
    ),
    "submit": Command(
        "render on a cluster, without need of this machine; Ctrl-C detaches",
        (
            _CLUSTER,
            *_CONFIG_WORDS,
            ("[follow=false]", "do not show the job's output"),
            ("[shared=true]", "absolute paths are those of the cluster's shared file system"),
            *_KUBERNETES_WORDS,
            ("[deadline=SECONDS]", "longest time of a job with a cluster of its own, on Kubernetes"),
            ("[sbatch.OPTION=VALUE ...]", "long option of sbatch, on Slurm, such as sbatch.partition=gpu sbatch.nodes=4"),
        ),
        "cluster=aws-gpu conf=poster output.dir=s3://BUCKET/poster", "cluster_jobs:submit_command", "preview",
    ),
    "attach": Command(
        "show the output of a submitted job until it ends", (_CLUSTER, _JOB),
        "cluster=aws-gpu job=poster-1a2b3c", "cluster_jobs:attach_command",
    ),
    "stop": Command(
        "have a submitted job save its canvas and end", (_CLUSTER, _JOB),
        "cluster=aws-gpu job=poster-1a2b3c", "cluster_jobs:stop_command",
    ),
}  # fmt: skip


def usage(width: int) -> str:
    """Return the help text of the program in lines of `width` columns: how to call it, and what each command does."""
    sentences = (
        f"`{PROGRAM} COMMAND help` lists the words that a command takes.",
        "conf=NAME names a config in conf/ (default: preview), or is the path of a YAML file of your own.",
        "Every other key=value changes a key of that config, such as image=me.jpg octaves.steps=20.",
    )
    return "\n".join(
        [
            f"usage: {PROGRAM} [COMMAND] [conf=NAME] [key=value ...]",
            "",
            "commands",
            *_entries([(name, command.summary) for name, command in COMMANDS.items()], width),
            "",
            *(line for sentence in sentences for line in wrapped(sentence, width)),
        ]
    )


def command_usage(name: str, width: int) -> str:
    """Return the help text of a command in lines of `width` columns: its call, what each word means, and an example."""
    command, call = COMMANDS[name], " ".join([PROGRAM, name])
    label = f"usage: {call}"
    words = " ".join(word for word, _ in command.words)
    lines = [*wrapped(words, width, label=label, indent=len(label) + 1), "", *wrapped(command.summary, width)]
    if command.words:
        lines += ["", *_entries(command.words, width)]
    if command.example:
        lines += ["", *wrapped(f"example: {call} {command.example}", width, indent=2)]
    return "\n".join(lines)


def _entries(entries: Sequence[tuple[str, str]], width: int) -> list[str]:
    """Return names with what they mean beside them, or below them where the width is small."""
    longest = max(len(name) for name, _ in entries)
    indent = longest + 4 if longest + 4 <= width // 2 else 6
    return [line for name, meaning in entries for line in wrapped(meaning, width, label=f"  {name}", indent=indent)]
