"""What commands list: within any width for people, and as one JSON document with the same facts for programs."""

from __future__ import annotations

import fcntl
import io
import json
import os
import pty
import re
import struct
import subprocess
import sys
import termios
from collections.abc import Iterator
from contextlib import redirect_stdout
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from rich.cells import cell_len

from render.__main__ import main
from render.commands.cluster_tables import add_ray, cluster_document
from render.commands.table import COMMANDS
from render.film.film_progress import FilmPosition
from render.networks.labels import class_names
from render.sweeps.monitor.board import Board
from render.sweeps.monitor.board_report import add_failures, board_document
from render.terminal.document import Document
from tests.conftest import ROOT, TINY, rendered
from tests.support.live_run import LiveJob, smooth
from tests.support.tiny_film import TinyFilm
from tests.sweeps.test_status import NOW, SweepOnDisk, board_of

#: Commands that do something and list nothing.
ACTIONS = {
    "render", "film", "sweep", "sheet", "export", "fetch", "view", "probe", "atlas", "cluster-up", "cluster-down", "submit",
    "attach", "stop", "touch", "proof",
}  # fmt: skip
#: Listings whose JSON is a report of its own, not a document.
OTHERS = {"preflight", "settings"}
NAMES = ("image=noise", "output.width=300", "output.height=200")
#: Words of the commands by the documents that they print.
CALLS: dict[str, tuple[str, ...]] = {
    "render-plan": ("plan", *TINY),
    "sweep-plan": ("plan", "-m", *TINY, "seed=1,2", "step_size=1,2,x"),
    "film-plan": ("plan", "conf=zoom", "image=sample:chelsea", "output.width=96", "output.height=64", "film.seconds=1"),
    "farm-plan": ("plan", *NAMES, "node=aws_p5", "farm.workers=8"),
    "touch-plan": ("plan", "run=dream", "box=25%,25%,50%,50%"),
    "source-plan": ("plan", "run=dream", "box=25%,25%,50%,50%", "to=source"),
    "run-status": ("status", "run=run"),
    "sweep-status": ("status", "run=sweep"),
    "film-status": ("status", "run=film"),
    "weights": ("weights",),
    "weights-file": ("weights", "model=inception_v3"),
    "models": ("models",),
    "objectives": ("objectives",),
    "looks": ("looks",),
    "classes": ("classes", "words=dog"),
}
WIDTHS = (60, 80, 100, 200)
#: Keys that only programs see: the sources of weights that are here, numbers that are in words, what a person has typed.
UNSHOWN = {
    "weights": {"sources"}, "weights-file": {"classes"}, "render-plan": {"classes"}, "models": {"classes"},
    "classes": {"model"},
}  # fmt: skip


@dataclass
class Listing:
    """A document that a command has printed as JSON, with the exit code."""

    document: Document
    printed: str
    code: int

    @property
    def data(self) -> dict[str, Any]:
        data: dict[str, Any] = json.loads(self.printed)
        return data

    def text(self, width: int = 2000) -> str:
        return "\n".join(self.document.lines(width))


def listed(words: tuple[str, ...]) -> Listing:
    """Run a command in this process with `json=true`."""
    documents: list[Document] = []
    stream = io.StringIO()
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(stream):
        shown = Document.print
        patch.setattr(Document, "print", lambda self, *, as_json: (documents.append(self), shown(self, as_json=as_json)))
        code = main([*words, "json=true"])
    (document,) = documents
    return Listing(document, stream.getvalue(), code)


@pytest.fixture(scope="module")
def listings(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Listing]]:
    """Every document by its name, printed by the real commands in one directory."""
    directory = tmp_path_factory.mktemp("listings")
    LiveJob(directory / "run", (40, 50), (60, 75)).save(0, 2, smooth(40, 50))
    record = json.loads((directory / "run" / "run.json").read_text())
    entry = {"number": 1, "key": "0" * 64, "to": "dream", "box": [3, 4, 40, 50], "feather": 5.0, "config": {}}
    touches = {"canvas": "a", "applied": [entry], "pending": "", "waiting": [entry]}
    (directory / "run" / "run.json").write_text(json.dumps(record | {"touches": touches}))
    (directory / "sweep").mkdir()
    sweep = SweepOnDisk(directory / "sweep")
    sweep.tell("started", 1, worker="pid 9", attempt=1)
    sweep.tell("failed", 2, reason="there is no such layer")
    TinyFilm(directory / "film").make(3)
    rendered(directory / "dream", *TINY)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(directory)
        patch.setenv("RENDER_OVERRIDES", "")
        yield {name: listed(words) for name, words in CALLS.items()}


def leaves(value: Any, key: str = "") -> Iterator[tuple[str, Any]]:
    """Yield the plain values in a document, each with its key."""
    if isinstance(value, dict):
        for inner_key, inner in value.items():
            yield from leaves(inner, inner_key)
    elif isinstance(value, list):
        for inner in value:
            yield from leaves(inner, key)
    else:
        yield key, value


# --- every command --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_that_lists_takes_json(name: str) -> None:
    has_json = any(word == "[json=true]" for word, _ in COMMANDS[name].words)
    assert has_json == (name not in ACTIONS), "add json=true, or the command to ACTIONS"
    if has_json and name not in OTHERS | {"cluster-status"}:
        assert name in {words[0] for words in CALLS.values()}, "add a call to CALLS"


@pytest.mark.parametrize(
    "name", sorted({words[0] for words in CALLS.values()} | {"cluster-status", "settings", "preflight"})
)
def test_json_is_true_or_false(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([name, "json=yes"]) == 2
    out, err = capsys.readouterr()
    assert (out, err) == ("", "render: json=yes: must be true or false\n")


@pytest.mark.parametrize("name", CALLS)
def test_a_document_is_json_alone_on_standard_output(name: str, listings: dict[str, Listing]) -> None:
    data = listings[name].data
    assert (data["document"], data["version"]) == (name, 1)
    assert listings[name].code == (1 if name in ("run-status", "sweep-status", "film-status") else 0)
    assert "\x1b" not in listings[name].printed


@pytest.mark.parametrize("name", CALLS)
def test_numbers_are_plain_and_their_units_are_in_their_keys(name: str, listings: dict[str, Listing]) -> None:
    for key, value in leaves(listings[name].data):
        if isinstance(value, str):
            assert not re.fullmatch(r"[\d.,]+ (s|min|px|kB|MB|GB|%|bytes).*", value), (key, value)
        for unit in ("px", "seconds", "bytes", "megapixels", "second"):
            if re.search(rf"\b{unit}$", key.replace("_", " ")):
                assert value is None or isinstance(value, int | float), (key, value)


@pytest.mark.parametrize("name", CALLS)
def test_text_and_json_agree(name: str, listings: dict[str, Listing]) -> None:
    """Every word and count that programs get is in the text, too."""
    text, words = listings[name].text(), listings[name].text().replace(",", " ").split()
    whole = re.compile("tiles|steps?|octaves?|channels|index|points|frames|failed|queued|.*_px|workers|classes|restarts")
    unshown = {"document", "version", "state", "source", "of", "directory", "kind", "command"} | UNSHOWN.get(name, set())
    for key, value in leaves(listings[name].data):
        if key in unshown or value is None or isinstance(value, bool | float):
            continue
        if isinstance(value, str) and key not in ("sha256", "started", "checkpoint_time", "label"):
            assert value.replace(", ", ",") in text.replace(", ", ","), (key, value)
        elif isinstance(value, int) and whole.fullmatch(key) and key not in ("useful_side_px", "exact_halo_px"):
            assert str(value) in words or f"{value:,}" in text or re.search(rf"\b{value}\b", text), (key, value)


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("name", CALLS)
def test_listings_fit_into_the_width_and_keep_their_facts(name: str, width: int, listings: dict[str, Listing]) -> None:
    lines = listings[name].document.lines(width)
    for line in lines:
        assert cell_len(line) <= width or max(map(cell_len, line.split())) > width, line
    assert set("\n".join(lines).split()) >= {word for word in listings[name].text().split() if word.strip("-")}
    for line, next_line in pairwise(lines):
        is_broken = re.search(r"(^|\s)[\d.,]*\d$", line) and re.match(
            r"\s*(s|min|px|[kMG]B|%|Mpx/s|TFLOP|x \d)\b", next_line
        )
        assert not is_broken, (line, next_line)


# --- facts ----------------------------------------------------------------------------------------------------------------


def test_a_plan_has_what_a_scheduler_asks(listings: dict[str, Listing]) -> None:
    data = listings["render-plan"].data
    (octave,) = data["octaves"]
    assert (octave["width_px"], octave["height_px"], octave["steps"]) == (96, 64, 1)
    assert data["seconds"] == pytest.approx(sum(octave["seconds"] for octave in data["octaves"]))
    assert data["memory_bytes"] > 1e8 and data["disk_bytes"] > 1e4 and data["operations"] > 1e8
    assert data["pictures"][0].endswith("preview.png")
    assert [kernel["window_width_px"] for kernel in data["kernels"]] == [octave["window_width_px"]]


def test_a_plan_of_a_sweep_lists_every_value_and_what_is_impossible(listings: dict[str, Listing]) -> None:
    data = listings["sweep-plan"].data
    assert data["axes"] == [{"key": "seed", "values": ["1", "2"]}, {"key": "step_size", "values": ["1", "2", "x"]}]
    assert data["points"] == 6 and data["done"] == 0
    assert len(data["impossible"]) == 2 and "step_size" in data["impossible"][0]["reason"]


def test_a_plan_for_other_machines_has_seconds_and_dollars(listings: dict[str, Listing]) -> None:
    data = listings["farm-plan"].data
    assert [step["workers"] for step in data["step_times"]] == [1, 8, 64, 512]
    (render,) = data["renders"]
    assert render["node"] == "aws_p5" and render["seconds"] > 0 and render["dollars"] > render["spot_dollars"] > 0
    parts = ("steps_seconds", "checkpoints_seconds", "changes_seconds", "compiling_seconds")
    assert render["seconds"] == pytest.approx(sum(render[part] for part in parts))


def test_status_says_how_far_things_are(listings: dict[str, Listing]) -> None:
    run, sweep, film = (listings[f"{kind}-status"].data for kind in ("run", "sweep", "film"))
    assert run["state"] == "broken off"
    assert {key: run["progress"][key] for key in ("octave", "octaves", "step", "steps")} == {
        "octave": 1, "octaves": 2, "step": 2, "steps": 3,
    }  # fmt: skip
    assert {key: sweep[key] for key in ("points", "done", "failed", "running", "queued")} == {
        "points": 4, "done": 0, "failed": 1, "running": 1, "queued": 2,
    }  # fmt: skip
    assert [(point["label"], point["worker"]) for point in sweep["running_points"]] == [("mixed1", "pid 9")]
    assert [(point["label"], point["reason"]) for point in sweep["failures"]] == [("mixed2", "there is no such layer")]
    assert (film["finished_frames"], film["frames"]) == (3, 12)


def test_lists_are_whole(listings: dict[str, Listing]) -> None:
    models = {model["name"]: model for model in listings["models"].data["models"]}
    layers = {layer["layer"]: layer for layer in models["inception_v3"]["layers"]}
    assert (layers["mixed5"]["channels"], layers["mixed5"]["stride_px"], layers["mixed5"]["receptive_field_px"]) == (
        768,
        16,
        543,
    )
    names = class_names("googlenet")
    dogs = [index for index, synonyms in enumerate(names) if "dog" in ", ".join(synonyms).lower()]
    assert [record["index"] for record in listings["classes"].data["classes"]] == dogs
    assert {network["model"] for network in listings["weights"].data["networks"]} == set(models)


def test_keys_are_those_that_the_readme_lists(listings: dict[str, Listing]) -> None:
    rows = re.findall(r"^\| `([\w-]+)` \|[^|]*\| `([^`]+)` \|$", (ROOT / "README.md").read_text(), re.MULTILINE)
    assert {name: keys for name, keys in rows if name != "cluster-status"} == {
        name: key_text(listing.data) for name, listing in listings.items()
    }
    assert dict(rows)["cluster-status"] == key_text(cluster_of_two().data)


def key_text(value: dict[str, Any]) -> str:
    """Return keys with a space between, those of records in brackets after their key, without what all documents have."""
    texts = []
    for key, inner in value.items():
        if key in ("document", "version"):
            continue
        record = inner[0] if isinstance(inner, list) and inner and isinstance(inner[0], dict) else inner
        texts.append(f"{key}({key_text(record)})" if isinstance(record, dict) and key != "assumptions" else key)
    return " ".join(texts)


# --- as typed -------------------------------------------------------------------------------------------------------------


def test_piped_output_is_as_wide_as_columns_says_or_else_80(command) -> None:
    environment = {"COLUMNS": ""}
    for columns, width in (("60", 60), ("100", 100), ("", 80)):
        environment["COLUMNS"] = columns
        finished = command("objectives", env=environment)
        assert (finished.code, finished.err) == (0, "")
        widest = max(map(cell_len, finished.out.splitlines()))
        assert 0.6 * width < widest <= width, (columns, widest)


@pytest.mark.parametrize("width", [60, 200])
def test_a_terminal_gets_lines_of_its_width(width: int, tmp_path: Path) -> None:
    """In a pseudo-terminal of that width, without COLUMNS."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 40, width, 0, 0))
    environment = {key: value for key, value in os.environ.items() if key != "COLUMNS"} | {"PYTHONPATH": str(ROOT)}
    environment["RENDER_OVERRIDES"] = ""
    process = subprocess.Popen(
        [sys.executable, "-m", "render", "objectives"], cwd=tmp_path, env=environment, stdout=theirs, stderr=subprocess.PIPE
    )
    os.close(theirs)
    content = b""
    try:
        while part := os.read(ours, 65536):
            content += part
    except OSError:
        pass  # The terminal has no other end any more.
    os.close(ours)
    assert process.wait(60) == 0 and process.stderr is not None and process.stderr.read() == b""
    lines = content.decode().replace("\r", "").splitlines()
    assert 0.6 * width < max(map(cell_len, lines)) <= width
    assert any("\N{BOX DRAWINGS LIGHT HORIZONTAL}" in line for line in lines)


def test_errors_leave_standard_output_empty(capsys: pytest.CaptureFixture[str]) -> None:
    for words in (["plan", *TINY, "seed=many"], ["status", "run=nowhere"], ["classes", "words=zzz"], ["models", "x=1"]):
        assert main([*words, "json=true"]) == 2
        out, err = capsys.readouterr()
        assert out == "" and err.startswith("render: ") and len(err.splitlines()) == 1


def test_the_choice_of_a_look_is_told_beside_the_document(command) -> None:
    finished = command("plan", *NAMES, "node=aws_p5", "look=auto", "json=true")
    assert finished.code == 0
    assert json.loads(finished.out)["document"] == "farm-plan"
    assert finished.err.startswith("look=")


def test_a_watched_sweep_ends_in_one_document(tmp_path: Path) -> None:
    sweep = SweepOnDisk(tmp_path / "sweep", count=1)
    watching = subprocess.Popen(
        [sys.executable, "-m", "render", "status", f"run={sweep.directory}", "watch=true", "json=true"],
        cwd=ROOT, env={**os.environ, "RENDER_OVERRIDES": ""}, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    sweep.tell("started", 0, worker="pid 9", attempt=1)
    sweep.tell("failed", 0, reason="no such layer")
    assert watching.stderr is not None
    assert watching.stderr.readline() == "failed: mixed0: no such layer\n"
    sweep.finish("failed")
    out, _ = watching.communicate(timeout=20)
    assert watching.returncode == 1
    assert json.loads(out)["failures"][0]["reason"] == "no such layer"


# --- parts that need a cluster --------------------------------------------------------------------------------------------


def test_running_films_are_listed_with_their_frames() -> None:
    board = board_of(2, 0)
    for number in range(2):
        board.set_progress(number, FilmPosition(3 + number, 12, rate=1.0))
    document = board_document(board, "sweeps/a", NOW)
    lines = document.lines(80)
    (heading,) = (number for number, line in enumerate(lines) if line.startswith("running"))
    assert lines[heading].split()[:3] == ["running", "frame", "done"]
    assert [word for line in lines[heading:] for word in line.split() if word.endswith("/12")] == ["4/12", "5/12"]
    points = document.data["running_points"]
    assert [(point["finished_frames"], point["frames"]) for point in points] == [(3, 12), (4, 12)]
    assert all(point["octave"] is None for point in points)


def test_a_sweep_of_many_points_is_listed_whole() -> None:
    board = board_of(40, 30)
    document = board_document(board, "sweeps/a", NOW)
    add_failures(document, board)
    text = "\n".join(document.lines(80))
    assert all(f"mixed{number} step_size=2" in text for number in range(70))
    assert len(document.data["running_points"]) == 40 and len(document.data["failures"]) == 30
    empty = board_document(Board([]), "sweeps/a", NOW)
    assert empty.data["running_points"] == [] and json.loads(empty.json())


#: Nodes as Ray's state API describes them.
NODES = [
    {"node_ip": "10.0.0.1", "is_head_node": True, "resources_total": {"CPU": 8.0, "memory": 64e9}},
    {"node_ip": "10.0.0.2", "is_head_node": False, "resources_total": {"CPU": 16.0, "GPU": 4.0, "memory": 128e9}},
]


def cluster_of_two() -> Document:
    """Return the state of a cluster with two nodes and a job."""
    job: Any = SimpleNamespace(
        submission_id="poster-f12e5c", status="RUNNING", start_time=1_700_000_000_000, metadata={"output": "s3://b/\x1b[2J"}
    )
    document = cluster_document("k8s-gpu", "kubernetes")
    add_ray(document, "k8s-gpu", "2.60.0", NODES, [job])
    return document


def test_nodes_and_jobs_of_ray_are_listed() -> None:
    document = cluster_of_two()
    data = json.loads(document.json())
    assert [(node["node"], node["gpus"], node["memory_bytes"]) for node in data["nodes"]] == [
        ("10.0.0.1", 0, 64_000_000_000), ("10.0.0.2", 4.0, 128_000_000_000),
    ]  # fmt: skip
    assert data["jobs"] == [
        {"job": "poster-f12e5c", "state": "running", "started": "2023-11-14T22:13:20+00:00", "directory": "s3://b/\x1b[2J"}
    ]
    text = "\n".join(document.lines(80))
    assert "k8s-gpu: Ray 2.60.0, 2 nodes" in text and "10.0.0.1 (head)" in text and r"s3://b/\x1b[2J" in text
    nothing = cluster_document("local", "running")
    add_ray(nothing, "local", "2.60.0", NODES[:1], [])
    assert nothing.lines(80)[-1] == "no jobs" and nothing.data["jobs"] == []
