"""Whole renders: bytes, blocks, run directory, interruption, and every bad input a user can bring."""

from __future__ import annotations

import json
import logging
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from render.__main__ import main
from render.config.compose import load_config, root_configs
from render.errors import UserError
from render.farm.checkpoint import Checkpoints
from render.farm.events import Saved
from render.farm.executors import InlineExecutor
from render.job.job import draft, prepared, render
from render.system.logs import log_to
from render.system.machine import cores
from tests.conftest import INLINE, ROOT, TINY, Finished, rendered
from tests.reports.seam import dream, psnr
from tests.support.farm_job import held
from tests.support.preloaded import Process, start_command

#: A few real octaves, small enough for a test; tiles are smaller than the canvas.
SMALL = (
    "image=sample:chelsea",
    "output.width=240",
    "octaves.count=2",
    "octaves.steps=3",
    "objective.terms=[mixed1,mixed3]",
    "tiles.size=96",
    INLINE,
)


@pytest.mark.slow
@pytest.mark.parametrize("boundary", ["reflect", "wrap_x"])
def test_the_canvas_does_not_depend_on_how_tiles_are_dealt(boundary: str) -> None:
    """Bit-identical float canvases for any blocks: margins and octave changes cross block borders.

    Also for more workers than there are tiles, of which the first octave leaves more without any than the second.
    """
    job = [*SMALL, f"boundary.mode={boundary}"]
    alone = dream("preview", job)
    assert alone.shape == (160, 240, 3)
    assert alone.std() > 10
    for workers, arrangement in ((2, None), (3, (1, 3)), (5, None), (8, None)):
        np.testing.assert_array_equal(dream("preview", job, workers, arrangement), alone)


@pytest.mark.slow
def test_blocks_in_scratch_files_make_the_same_canvas(tmp_path: Path) -> None:
    """A mapped file in place of memory, as a plan has it for blocks that do not fit; nothing of it is left behind."""
    words = [*SMALL, "farm.workers=2", f"output.dir={tmp_path / 'run'}"]
    with prepared(draft(load_config("preview", words))) as job:
        in_files = replace(job, plan=replace(job.plan, scratch_bytes=1))
        canvases = []
        for each in (job, in_files):
            conductor = each.conductor()
            for _ in conductor.run(job.resolved.seed):
                pass
            canvases.append(held(conductor))
            each.resolved.directory.checkpoints.discard()
    np.testing.assert_array_equal(*canvases)
    assert [path.name for path in (tmp_path / "run").iterdir()] == []


@pytest.mark.slow
def test_tile_size_does_not_show() -> None:
    """At least 60 dB between any two tile sizes; with halo 0 the same sizes are far apart."""
    exact = [dream("preview", [*SMALL, f"tiles.size={size}"]) for size in (64, 104, 4096)]
    assert min(psnr(exact[0], exact[1]), psnr(exact[0], exact[2]), psnr(exact[1], exact[2])) >= 60
    cut = [dream("preview", [*SMALL, f"tiles.size={size}", "tiles.halo=0"]) for size in (64, 4096)]
    assert psnr(*cut) < 40


def test_detail_is_carried_from_octave_to_octave(tmp_path: Path) -> None:
    """With no steps the result is the source; detail made in the coarse octave alone survives in the fine one."""
    still = dream("preview", [*SMALL, "octaves.steps=0"])
    with prepared(draft(load_config("preview", [*SMALL, f"output.dir={tmp_path}"]))) as job:
        source = job.resolved.source.at((160, 240), job.plan.final.grid.canvas)
        np.testing.assert_allclose(still, source, atol=1e-3)

        conductor = job.conductor()
        events = conductor.run(0)
        # The second octave has begun when its start is announced: source plus the first octave's resampled detail.
        starts = 0
        while starts < 2:
            starts += type(next(events)).__name__ == "OctaveStarted"
        begun = held(conductor)
    change = begun - source
    assert 1 < np.abs(change).mean() < 20
    coarse = np.abs(np.diff(change, axis=1)).mean()
    fine = np.abs(np.diff(source, axis=1)).mean()
    assert coarse < 3 * fine


def test_every_saving_refreshes_the_preview(tmp_path: Path) -> None:
    """Within an octave too: whoever looks sees what lies on disk, not the octave before."""
    words = [*SMALL, "checkpoint.every=0", f"output.dir={tmp_path / 'run'}"]
    seen = []
    with prepared(draft(load_config("preview", words))) as job:
        for event in job.conductor().run(0):
            if isinstance(event, Saved):
                seen.append((event.octave.index, event.steps, event.preview))
    assert [(octave, steps, preview is None) for octave, steps, preview in seen] == [
        (0, 1, False), (0, 2, False), (0, 3, True), (1, 1, False), (1, 2, False), (1, 3, True),
    ]  # fmt: skip
    first, second = (preview for octave, steps, preview in seen if octave == 1 and steps < 3)
    assert first.shape == (160, 240, 3)
    assert (first != second).any()


def test_same_command_twice_gives_identical_bytes(command, tmp_path: Path) -> None:
    for name in ("a", "b"):
        assert command(*SMALL, "octaves.steps=2", f"output.dir={name}").code == 0
    first, second = ((tmp_path / name / "preview.png").read_bytes() for name in ("a", "b"))
    assert first == second
    assert command(*SMALL, "octaves.steps=2", "output.dir=c", "seed=1").code == 0
    assert (tmp_path / "c" / "preview.png").read_bytes() != first


def test_the_picture_does_not_tell_how_many_dreamed_it(command, tmp_path: Path) -> None:
    """One worker and three: the same file, byte for byte, and the record knows."""
    for workers in (1, 3):
        assert command(*SMALL, "octaves.steps=1", f"farm.workers={workers}", f"output.dir={workers}").code == 0
    one, three = ((tmp_path / str(workers) / "preview.png").read_bytes() for workers in (1, 3))
    assert one == three
    records = [json.loads((tmp_path / str(workers) / "run.json").read_text()) for workers in (1, 3)]
    assert [record["plan"]["workers"] for record in records] == [1, 3]


def test_run_directory_holds_picture_previews_log_and_record(command, tmp_path: Path) -> None:
    done = command(*SMALL, "octaves.steps=2", "output.dir=run", "output.format=jpeg")
    assert done.code == 0
    assert done.out.strip().splitlines()[-1] == "run/preview.jpg"
    run = tmp_path / "run"
    with Image.open(run / "preview.jpg") as picture:
        assert (picture.format, picture.size) == ("JPEG", (240, 160))
    for octave, size in ((1, (171, 114)), (2, (240, 160))):
        with Image.open(run / "previews" / f"octave-{octave}.png") as preview:
            assert preview.size == size
    record = json.loads((run / "run.json").read_text())
    assert record["status"] == "finished"
    assert record["config"]["octaves"] == {"count": 2, "scale": 1.4, "steps": 2}
    assert len(record["weights_sha256"]) == len(record["image_sha256"]) == 64
    assert record["versions"]["jax"]
    assert [len(octave["mean_gradient"]) for octave in record["octaves"]] == [2, 2]
    assert all(value > 0 for octave in record["octaves"] for value in octave["mean_gradient"])
    assert record["seconds"]["total"] > 0
    log = (run / "render.log").read_text()
    assert log.count("mean|g|") == 4
    assert "finished" in log
    printed = command("settings", "image=run/preview.jpg")
    assert printed.code == 0, printed.err
    settings = json.loads(printed.out)
    assert settings["weights_sha256"] == record["weights_sha256"]
    assert settings["dreamed"] == "mixed1 + mixed3"
    assert settings["step_size"] == 1.5
    assert sorted(path.name for path in run.iterdir() if not path.name.startswith(".")) == [
        "canvas", "preview.jpg", "previews", "render.log", "run.json",
    ]  # fmt: skip
    # Of the canvas only the one that counts is kept: the finished one.
    read = Checkpoints(run / "canvas").read()
    assert read is not None
    ((finished,),) = read[1:]
    assert (finished.octave, finished.steps) == (1, 2)
    assert sorted(path.name for path in (run / "canvas").iterdir()) == sorted(["manifest.json", finished.slot])


@pytest.mark.parametrize("root", root_configs())
def test_every_root_config_renders(root: str, command, tmp_path: Path) -> None:
    size = ("output.width=112", "output.height=80", "output.width_cm=null")
    # No filter that looks farther than so small a canvas.
    few = ("octaves.count=2", "octaves.steps=1", "objective.terms=[mixed0]", "conditioning.laplacian=0")
    done = command(f"conf={root}", *size, *few, "output.dir=run", INLINE)
    assert done.code == 0, done.err
    pictures = json.loads((tmp_path / "run" / "run.json").read_text())["pictures"]
    assert set(pictures) == ({"gigapixel.btf", "gigapixel-zoom"} if root == "gigapixel" else {f"{root}.png"})
    with Image.open(tmp_path / "run" / sorted(pictures)[-1]) as picture:
        assert picture.size == (112, 80)


def test_quiet_prints_nothing(command) -> None:
    done = command(*TINY, "quiet=true")
    assert (done.code, done.out, done.err) == (0, "", "")


def test_a_finished_run_is_not_dreamed_again(command, tmp_path: Path) -> None:
    assert command(*TINY).code == 0
    (picture,) = tmp_path.glob("dreams/*/preview.png")
    before = picture.stat().st_mtime_ns
    again = command(*TINY)
    assert (again.code, picture.stat().st_mtime_ns) == (0, before)
    assert "already finished" in again.out
    assert command(*TINY, "fresh=true").code == 0
    assert picture.stat().st_mtime_ns > before


def test_a_run_directory_of_another_config_is_refused(command, tmp_path: Path) -> None:
    assert command(*TINY, "output.dir=run").code == 0
    before = (tmp_path / "run" / "preview.png").read_bytes()
    command(*TINY, "output.dir=run", "step_size=3", "seed=9").refused("seed, step_size", "fresh=true")
    assert (tmp_path / "run" / "preview.png").read_bytes() == before
    assert command(*TINY, "output.dir=run", "step_size=3", "seed=9", "fresh=true").code == 0
    assert (tmp_path / "run" / "preview.png").read_bytes() != before


def test_a_picture_of_the_users_is_never_replaced_unasked(command, tmp_path: Path) -> None:
    (tmp_path / "mine.png").write_bytes(b"precious")
    command(*TINY, "output.path=mine.png").refused("mine.png", "overwrite=true")
    assert (tmp_path / "mine.png").read_bytes() == b"precious"
    assert command(*TINY, "output.path=mine.png", "overwrite=true").code == 0
    with Image.open(tmp_path / "mine.png") as picture:
        assert picture.size[0] == 96


def test_files_that_no_run_made_are_left_alone(command, tmp_path: Path) -> None:
    """A directory with things of the user's under the names that runs use is not a run directory, fresh or not."""
    for name in ("previews/holiday.txt", "canvas/holiday.txt", "render.log", "run.json", "preview.png"):
        folder = tmp_path / name.replace("/", "-")
        (folder / name).parent.mkdir(parents=True)
        (folder / name).write_text("{}")
        command(*TINY, f"output.dir={folder}", "fresh=true").refused("no run made", "output.dir")
        assert [path.read_text() for path in folder.rglob("*") if path.is_file()] == ["{}"]


def test_a_run_that_was_killed_before_it_had_a_record_is_begun_again(command, tmp_path: Path) -> None:
    """A full disk, or a kill at once, leaves a log beside the lock and nothing else."""
    (tmp_path / "run").mkdir()
    for name in (".lock", "render.log"):
        (tmp_path / "run" / name).touch()
    assert command(*TINY, "output.dir=run").code == 0


def test_a_log_that_cannot_be_written_is_said_in_a_line(command, tmp_path: Path) -> None:
    assert command(*TINY, "output.dir=run").code == 0
    (tmp_path / "run" / "preview.png").unlink()
    (tmp_path / "run" / "render.log").unlink()
    (tmp_path / "run" / "render.log").mkdir()
    command(*TINY, "output.dir=run").refused("render.log", "move it away")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="the system has no full device")
def test_a_full_disk_costs_a_log_its_lines_and_no_more(capfd: pytest.CaptureFixture[str]) -> None:
    with log_to(Path("/dev/full"), lambda **_facts: None):
        logging.getLogger("render").warning("what nobody will read")
    assert capfd.readouterr().err == ""


def test_a_finished_picture_that_was_touched_up_is_kept(command, tmp_path: Path) -> None:
    assert command(*TINY, "output.dir=run").code == 0
    (tmp_path / "run" / "preview.png").write_bytes(b"touched up")
    for words in ((), ("fresh=true",)):
        command(*TINY, "output.dir=run", *words).refused("preview.png", "overwrite=true")
    assert (tmp_path / "run" / "preview.png").read_bytes() == b"touched up"
    assert command(*TINY, "output.dir=run", "overwrite=true").code == 0
    with Image.open(tmp_path / "run" / "preview.png") as picture:
        assert picture.size[0] == 96


def test_the_source_is_never_replaced(command, tmp_path: Path) -> None:
    Image.new("RGB", (96, 64), "teal").save(tmp_path / "in.png")
    (tmp_path / "link.png").symlink_to("in.png")
    before = (tmp_path / "in.png").read_bytes()
    for path in ("in.png", "link.png", "../" + tmp_path.name + "/in.png"):
        command(*TINY, "image=in.png", f"output.path={path}", "overwrite=true").refused("image itself")
    mask = ("objective.mask={image: in.png}", "objective.mask.image itself")
    guide = ("objective.terms=[{layer: conv2d_1a_3x3, guide: in.png}]", "objective.terms[0].guide itself")
    texture = ("objective.terms=[{layer: conv2d_1a_3x3, texture: in.png}]", "objective.terms[0].texture itself")
    for word, said in (mask, guide, texture):
        command(*TINY, word, "output.path=in.png", "overwrite=true").refused(said)
    assert (tmp_path / "in.png").read_bytes() == before


def test_a_finished_run_hands_out_copies_without_dreaming(command, tmp_path: Path) -> None:
    assert command(*TINY, "output.dir=run").code == 0
    picture = (tmp_path / "run" / "preview.png").read_bytes()
    (tmp_path / "dangling.png").symlink_to("behind.png")
    for name in ("one.png", "deep/er/two.png", "dangling.png", "one.png"):
        copied = command(*TINY, "output.dir=run", f"output.path={name}")
        assert copied.code == 0
        assert "already finished" in copied.out
        assert (tmp_path / name).read_bytes() == picture
    assert (tmp_path / "dangling.png").is_symlink()
    assert (tmp_path / "behind.png").read_bytes() == picture


def test_a_copy_that_an_earlier_run_handed_out_follows_the_run(command, tmp_path: Path) -> None:
    words = (*TINY, "output.dir=run", "output.path=out.png")
    assert command(*words).code == 0
    before = (tmp_path / "out.png").read_bytes()
    assert command(*words, "seed=9", "step_size=3", "fresh=true").code == 0
    assert (tmp_path / "out.png").read_bytes() == (tmp_path / "run" / "preview.png").read_bytes() != before


def test_a_picture_that_appears_meanwhile_is_kept(tmp_path: Path) -> None:
    """Between check and publication another program may take the name: it wins, the run directory has the dream."""
    words = [*TINY, f"output.dir={tmp_path / 'run'}", f"output.path={tmp_path / 'late.png'}"]
    with prepared(draft(load_config("preview", words))) as job:
        job.resolved.directory.check()
        (tmp_path / "late.png").write_bytes(b"theirs")
        with pytest.raises(UserError, match="exists"):
            render(job)
    assert (tmp_path / "late.png").read_bytes() == b"theirs"


def test_when_the_copy_cannot_be_written_the_picture_is_in_the_run_directory(tmp_path: Path) -> None:
    words = [*TINY, f"output.dir={tmp_path / 'run'}", f"output.path={tmp_path / 'gone' / 'late.png'}"]
    with prepared(draft(load_config("preview", words))) as job:
        (tmp_path / "gone").write_text("a file where a directory should come")
        with pytest.raises(UserError, match="late"):
            job.resolved.directory.pictures.publish()
        (tmp_path / "gone").unlink()
        assert render(job) == [tmp_path / "gone" / "late.png"]
    assert (tmp_path / "run" / "preview.png").read_bytes() == (tmp_path / "gone" / "late.png").read_bytes()


def test_other_weights_under_the_same_name_are_another_picture(command, inception, tmp_path: Path) -> None:
    """What is in a weights file counts, not what it is called."""
    np.savez(tmp_path / "w.npz", **inception.parameters)
    words = (*TINY, "model.weights=w.npz", "output.dir=run")
    assert command(*words).code == 0
    changed = {"conv2d_1a_3x3/weight": 1.5 * inception.parameters["conv2d_1a_3x3/weight"]}
    np.savez(tmp_path / "w.npz", **{**inception.parameters, **changed})
    command(*words).refused("weights content", "fresh=true")


def test_a_gradient_that_is_not_finite_names_octave_step_and_tile(command, inception, tmp_path: Path) -> None:
    huge = {"conv2d_1a_3x3/weight": inception.parameters["conv2d_1a_3x3/weight"] * np.float32(1e23)}
    np.savez(tmp_path / "huge.npz", **{**inception.parameters, **huge})
    command(*TINY, "model.weights=huge.npz").refused("not finite", "octave 1", "step 1", "tile 0")
    assert not list(tmp_path.rglob("*.png"))


def test_nobody_reading_does_not_stop_a_render(tmp_path: Path) -> None:
    """Standard output and error are pipes whose other end is closed at once."""
    reader, writer = os.pipe()
    os.close(reader)
    words = [sys.executable, "-m", "render", *TINY, "octaves.steps=3", "output.dir=run"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "RENDER_OVERRIDES": ""}
    done = subprocess.run(words, cwd=tmp_path, env=environment, stdout=writer, stderr=writer, timeout=120)
    os.close(writer)
    assert done.returncode == 0
    assert (tmp_path / "run" / "preview.png").exists()
    assert json.loads((tmp_path / "run" / "run.json").read_text())["status"] == "finished"


@pytest.mark.parametrize("name", ["plan", "looks", "objectives", "render"])
def test_a_reader_that_stops_reading_is_no_error(name: str, tmp_path: Path) -> None:
    """Standard output is a pipe whose other end is closed, as behind `head -1`."""
    reader, writer = os.pipe()
    os.close(reader)
    words = [sys.executable, "-m", "render", name, *(TINY if name in ("plan", "render") else ())]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "RENDER_OVERRIDES": ""}
    done = subprocess.run(words, cwd=tmp_path, env=environment, stdout=writer, stderr=subprocess.PIPE, timeout=120)
    os.close(writer)
    assert done.returncode == 0
    assert b"BrokenPipeError" not in done.stderr


@pytest.mark.parametrize("boundary", ["wrap", "wrap_x"])
def test_a_wrapped_picture_has_no_seam(boundary: str) -> None:
    """Lines meet across the ends as they do anywhere else: steps, detail and source all go round."""
    words = ("image=noise", "output.width=192", "output.height=192", "octaves.count=4", "octaves.steps=3", "seed=3")
    canvas = dream("preview", [*words, "objective.terms=[mixed0]", f"boundary.mode={boundary}"], 2)
    for axis in (0, 1) if boundary == "wrap" else (1,):
        differences = np.abs(canvas - np.roll(canvas, 1, axis)).mean((1 - axis, 2))
        assert differences[0] < 1.25 * np.median(differences)
    if boundary == "wrap_x":
        # Top and bottom do not meet, so the measure can tell.
        differences = np.abs(canvas - np.roll(canvas, 1, 0)).mean((1, 2))
        assert differences[0] > 1.25 * np.median(differences)


#: How an interrupted render says what the same command will do.
GOES_ON = re.compile(r"render: interrupted; the same command goes on from octave (\d+), step (\d+)")


def start_anew(directory: Path, *words: str) -> subprocess.Popen[str]:
    """`python -m render` in a directory, still running; in a Python that has just been started."""
    return subprocess.Popen(
        [sys.executable, "-m", "render", *words],
        cwd=directory,
        env={**os.environ, "PYTHONPATH": str(ROOT), "RENDER_OVERRIDES": "", "PYTHONFAULTHANDLER": "1"},
        stderr=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def start(directory: Path, *words: str) -> Process:
    """`python -m render` in a directory, still running."""
    return start_command(*words, cwd=directory)


def wait_for(log: Path, text: str, process: Process) -> None:
    """Returns once the log of a running render has the text."""
    deadline = time.monotonic() + 120
    while not (log.exists() and text in log.read_text()):
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.mark.parametrize("delay", [0.4, 0.6, 0.9, 1.4, 2.0])
def test_ctrl_c_at_any_moment_ends_with_130(delay: float, tmp_path: Path) -> None:
    process = start_anew(tmp_path, *SMALL, "octaves.steps=400", "output.dir=run")
    time.sleep(delay)
    process.send_signal(signal.SIGINT)
    try:
        _, errors = process.communicate(timeout=60)
    except subprocess.TimeoutExpired:
        # Python then prints where its threads are.
        process.send_signal(signal.SIGABRT)
        pytest.fail(process.communicate(timeout=60)[1])
    assert process.returncode == 130, errors
    assert errors.count("render: interrupted") == 1
    assert "Traceback" not in errors
    assert not list(tmp_path.rglob("preview.png"))


def test_ctrl_c_where_nothing_can_be_raised_is_raised_later_and_prints_nothing() -> None:
    """As in JAX's callback of the garbage collector, whose exceptions Python prints and forgets."""
    program = (
        "import os, signal\n"
        "from render.system import interrupts\n"
        "class Collected:\n"
        "    def __del__(self):\n"
        "        os.kill(os.getpid(), signal.SIGINT)\n"
        "        for _ in range(1000): pass\n"
        "interrupts.install(); interrupts.hold()\n"
        "Collected()\n"
        "try: interrupts.check()\n"
        "except KeyboardInterrupt: print('raised')\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.stdout, done.stderr) == ("raised\n", "")


def test_ctrl_c_while_jax_is_imported_waits_for_the_import() -> None:
    """The initialisation of its native modules ends the process where an exception passes through it."""
    program = (
        "import os, signal, sys\n"
        "from render.system import interrupts\n"
        "from render.farm.farms import InlineFarm\n"
        "class Stopping:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name.startswith(('jax', 'flax')) and not interrupts.is_stop_requested():\n"
        "            os.kill(os.getpid(), signal.SIGINT)\n"
        "interrupts.install()\n"
        "interrupts.hold()\n"
        "sys.meta_path.insert(0, Stopping())\n"
        "try:\n"
        "    InlineFarm(1, 1)\n"
        "except KeyboardInterrupt:\n"
        "    sys.exit(130 if 'jax' in sys.modules and 'render.farm.worker.process' in sys.modules else 1)\n"
    )
    ended = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, stderr=subprocess.PIPE, text=True, timeout=60, check=False
    )
    assert ended.returncode == 130, ended.stderr


@pytest.mark.parametrize(
    ("signals", "output", "messages"),
    [(1, "compiled\n", ""), (2, "", "render: interrupted\n")],
    ids=["once", "twice"],
)
def test_ctrl_c_while_a_worker_of_this_process_compiles(signals: int, output: str, messages: str) -> None:
    """Once waits for the compiler, because JAX stopped halfway makes Python crash at its end; twice ends at once."""
    program = (
        "import os, signal, sys, time\n"
        "import jax\n"
        "from render.farm.executors import InlineExecutor\n"
        "from render.system import interrupts\n"
        "def traced(x):\n"
        f"    for _ in range({signals}):\n"
        "        os.kill(os.getpid(), signal.SIGINT)\n"
        "        time.sleep(0.5)\n"
        "    return x + 1\n"
        "class Worker:\n"
        "    def call(self, method, *arguments):\n"
        "        jax.jit(traced)(1.0)\n"
        "        print('compiled', flush=True)\n"
        "interrupts.install()\n"
        "interrupts.hold()\n"
        "try:\n"
        "    InlineExecutor([Worker()]).open()\n"
        "except KeyboardInterrupt:\n"
        "    sys.exit(130)\n"
    )
    ended = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, timeout=60, check=False
    )
    assert (ended.returncode, ended.stdout, ended.stderr) == (130, output, messages)


@pytest.mark.parametrize("stop", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_an_interrupted_render_leaves_no_picture(stop: signal.Signals, tmp_path: Path) -> None:
    process = start(tmp_path, *SMALL, "octaves.steps=500", "output.dir=run")
    log = tmp_path / "run" / "render.log"
    wait_for(log, "step 2:", process)
    process.send_signal(stop)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    stopping, last = errors.strip().splitlines()[-2:]
    assert stopping.startswith("render: stopping: ")
    goes_on = GOES_ON.fullmatch(last)
    assert goes_on, errors
    assert "Traceback" not in errors
    assert not list(tmp_path.rglob("preview.png*"))
    assert not list(tmp_path.rglob("*.partial"))
    record = json.loads((tmp_path / "run" / "run.json").read_text())
    assert record["status"] == "interrupted"
    assert goes_on[0].removeprefix("render: ") in record["error"]
    assert "interrupted" in log.read_text().lower() or "KeyboardInterrupt" in log.read_text()
    # What was said is there, whole: the canvas after as many steps as the log tells of.
    read = Checkpoints(tmp_path / "run" / "canvas").read()
    assert read is not None
    newest = read[1][0]
    assert (newest.octave + 1, newest.steps) == (int(goes_on[1]), int(goes_on[2])) == (1, log.read_text().count("mean|g|"))


@pytest.mark.slow
def test_an_interrupted_render_goes_on_to_the_same_bytes(command, tmp_path: Path) -> None:
    """Stopped once in each octave; the third time the same command ends where one that was left alone does."""
    words = [*SMALL, "octaves.steps=6"]
    run = tmp_path / "run"
    said = []
    for octave, step in ((1, 2), (2, 3)):
        process = start(tmp_path, *words, "output.dir=run")
        wait_for(run / "render.log", f"octave {octave} step {step}:", process)
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=60)
        assert process.returncode == 130, errors
        goes_on = GOES_ON.fullmatch(errors.strip().splitlines()[-1])
        assert goes_on, errors
        assert int(goes_on[1]) == octave
        assert int(goes_on[2]) >= step
        said.append(f"going on from octave {goes_on[1]}, step {goes_on[2]}")
    resumed = command(*words, "output.dir=run")
    assert resumed.code == 0, resumed.err
    assert command(*words, "output.dir=whole").code == 0
    assert (run / "preview.png").read_bytes() == (tmp_path / "whole" / "preview.png").read_bytes()
    log = (run / "render.log").read_text()
    assert [log.count(line) for line in said] == [1, 1]
    # Every step was done once, and is told of once.
    assert log.count("mean|g|") == 12
    records = [json.loads((tmp_path / name / "run.json").read_text()) for name in ("run", "whole")]
    assert [len(record["resumed"]) for record in records] == [2, 0]
    assert [record["status"] for record in records] == ["finished", "finished"]
    gradients = [[octave["mean_gradient"] for octave in record["octaves"]] for record in records]
    assert gradients[0] == gradients[1]
    assert [len(octave) for octave in gradients[0]] == [6, 6]
    for octave in (1, 2):
        previews = [tmp_path / name / "previews" / f"octave-{octave}.png" for name in ("run", "whole")]
        assert previews[0].read_bytes() == previews[1].read_bytes()


def test_one_request_that_comes_by_two_ways_is_one(tmp_path: Path) -> None:
    """`timeout make render` has SIGTERM come twice at the same moment: the canvas is saved all the same."""
    process = start(tmp_path, *SMALL, "octaves.steps=500", "checkpoint.every=1000", "output.dir=run")
    wait_for(tmp_path / "run" / "render.log", "step 2:", process)
    process.send_signal(signal.SIGTERM)
    process.send_signal(signal.SIGHUP)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130, errors
    assert GOES_ON.fullmatch(errors.strip().splitlines()[-1]), errors
    read = Checkpoints(tmp_path / "run" / "canvas").read()
    assert read is not None
    assert read[1][0].steps >= 2


def test_a_render_that_is_taken_up_says_so_first(command, tmp_path: Path) -> None:
    words = [*SMALL, "octaves.count=1", "octaves.steps=400", "output.dir=run"]
    process = start(tmp_path, *words, "checkpoint.every=0")
    wait_for(tmp_path / "run" / "render.log", "saved octave 1, step 1 ", process)
    process.kill()
    process.communicate(timeout=60)
    read = Checkpoints(tmp_path / "run" / "canvas").read()
    assert read is not None
    again = start(tmp_path, *words)
    assert again.stdout is not None
    assert again.stdout.readline() == f"going on from octave 1, step {read[1][0].steps}\n"
    again.kill()
    again.communicate(timeout=60)
    quiet = start(tmp_path, *words, "quiet=true")
    wait_for(tmp_path / "run" / "render.log", f"step {read[1][0].steps + 2}:", quiet)
    quiet.send_signal(signal.SIGTERM)
    assert quiet.communicate(timeout=60)[0] == ""


def test_a_second_request_stops_at_once(tmp_path: Path) -> None:
    """Without another checkpoint: what was saved before counts, and there is one line all the same."""
    process = start(tmp_path, *SMALL, "octaves.steps=500", "checkpoint.every=0", "output.dir=run")
    log = tmp_path / "run" / "render.log"
    wait_for(log, "saved octave 1, step 2", process)
    for _ in range(2):
        process.send_signal(signal.SIGINT)
        time.sleep(0.4)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130, errors
    assert GOES_ON.fullmatch(errors.strip().splitlines()[-1]), errors
    assert "Traceback" not in errors
    assert not list(tmp_path.rglob("preview.png*"))
    read = Checkpoints(tmp_path / "run" / "canvas").read()
    assert read is not None
    assert read[1][0].steps >= 2


def test_fresh_forgets_what_was_saved(command, tmp_path: Path) -> None:
    words = [*SMALL, "octaves.steps=2", "octaves.count=1", "checkpoint.every=0"]
    process = start(tmp_path, *words, "octaves.steps=400", "output.dir=run")
    wait_for(tmp_path / "run" / "render.log", "saved octave 1, step 1", process)
    process.send_signal(signal.SIGINT)
    assert process.communicate(timeout=60)
    # Another picture would have to be begun at its beginning: that is asked for, not guessed.
    command(*words, "output.dir=run").refused("octaves.steps", "fresh=true")
    assert (tmp_path / "run" / "canvas" / "manifest.json").exists()
    assert command(*words, "output.dir=run", "fresh=true").code == 0
    log = (tmp_path / "run" / "render.log").read_text()
    assert "going on" not in log
    assert log.count("mean|g|") == 2


@pytest.fixture
def command_here(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., Finished]:
    """The command in this process, where nothing is imported anew; what it changes of the process is put back."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("RENDER_OVERRIDES", "")
    monkeypatch.setenv("NPROC", str(cores()))
    monkeypatch.setattr(logging.getLogger("render.storage.downloads"), "handlers", [])

    def run(*words: str) -> Finished:
        code = main(words)
        return Finished(code, *capsys.readouterr())

    return run


def test_a_directory_in_use_is_refused(command, tmp_path: Path) -> None:
    from filelock import FileLock

    (tmp_path / "run").mkdir()
    with FileLock(tmp_path / "run" / ".lock"):
        command(*TINY, "output.dir=run").refused("still going", "output.dir")


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (["image=nowhere.jpg"], ["nowhere.jpg", "does not exist"]),
        (["image=sample:hubbel"], ["sample:hubble"]),
        (["objective.terms=[mixed44]"], ["mixed44", "mixed4"]),
        (["objective.terms=['mixed4:768']"], ["mixed4", "0 to 767"]),
        (["octave.count=3"], ["octave.count", "octaves.count"]),
        (["output.width=-5"], ["output.width", "above 0"]),
        (["output.width=0"], ["output.width", "above 0"]),
        (["octaves.scale=1"], ["octaves.scale", "above 1"]),
        (["tiles.halo=-1"], ["tiles.halo"]),
        (["octaves.steps=many"], ["octaves.steps"]),
        (["conf=postr"], ["postr", "poster"]),
        (["model=inception_v4"], ["model"]),
        (["model.weights=absent.npz"], ["absent.npz"]),
        (
            ["output.width=30", "image=noise", "boundary.fill=0", "objective.terms=[mixed8]"],
            ["an octave of", "larger"],
        ),
        (["dance"], ["dance"]),
        (["step_size=1e300"], ["step_size", "at most 255"]),
        (["boundary.mode=wrap", "image=noise", "output.width=3", "output.height=90"], ["3 px", "wrap", "larger"]),
        (["output.dir=~nobody-here/x"], ["output.dir", "no such user"]),
        (["output.path=" + 300 * "x" + ".png"], ["output.path"]),
        (["model.weights=" + 300 * "x" + ".npz"], ["model.weights"]),
        (["output.width=400000"], ["400,000 x 266,075 px", "disk", "smaller"]),
        (["output.width=2000", "farm.worker.memory_gb=0.1"], ["a worker needs", "memory", "farm.worker.memory_gb"]),
        (["farm.workers=0"], ["farm.workers=0", "from 1 to"]),
        (["farm.executor=dask"], ["farm.executor=dask", "ray or inline"]),
        (["farm.worker.num_gpus=1.5"], ["farm.worker.num_gpus", "whole"]),
        # This process has no GPU, and has begun to use its CPU besides.
        (["farm.worker.num_gpus=1"], ["cannot use its GPU", "make setup EXTRAS=cuda"]),
        (["farm.address=auto"], ["farm.address=auto", "farm.executor=ray"]),
        (["farm.retries=-1"], ["farm.retries=-1"]),
        (["farm.scratch=~nobody-here/x"], ["farm.scratch", "no such user"]),
        (["checkpoint.every=-1"], ["checkpoint.every", "0 (every step)"]),
        (["tiles.parallel=0"], ["tiles.parallel=0", "from 1 to"]),
    ],
)
def test_bad_input_is_one_line_and_code_2(overrides: list[str], words: list[str], command_here, tmp_path: Path) -> None:
    command_here(*TINY, *overrides).refused(*words)
    assert not list(tmp_path.rglob("*.png"))


def test_settings_of_a_foreign_picture_are_refused(command, tmp_path: Path) -> None:
    Image.new("RGB", (8, 8)).save(tmp_path / "plain.png")
    command("settings", "image=plain.png").refused("plain.png", "no settings")
    command("settings", "image=absent.png").refused("absent.png")
    command("settings").refused("image")


def test_a_gradient_that_is_zero_everywhere_is_explained(command, inception, tmp_path: Path) -> None:
    """A first convolution that never fires leaves nothing to climb."""
    first = {name: np.full_like(inception.parameters[name], -1e-3) for name in ("conv2d_1a_3x3/bias",)}
    first["conv2d_1a_3x3/weight"] = np.zeros_like(inception.parameters["conv2d_1a_3x3/weight"])
    np.savez(tmp_path / "dead.npz", **{**inception.parameters, **first})
    command(*TINY, "model.weights=dead.npz").refused("zero everywhere", "octave 1", "mixed0")


def test_output_that_cannot_be_written(command, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a directory")
    command(*TINY, "output.dir=file").refused("output.dir=file", "directory")
    command(*TINY, "output.dir=file/run").refused("file/run")
    command(*TINY, "output.dir=/proc/run").refused("/proc/run", "output.dir")
    (tmp_path / "folder.png").mkdir()
    command(*TINY, "output.path=folder.png").refused("folder.png", "directory")


def test_a_disk_too_small_is_refused_before_work(command, tmp_path: Path) -> None:
    """On a real, tiny file system where one may be mounted."""
    small = tmp_path / "small"
    small.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "none", str(small)], capture_output=True).returncode:
        pytest.skip("needs the right to mount a small file system")
    try:
        command(*TINY, "output.dir=small/run").refused("disk", "output.dir")
    finally:
        subprocess.run(["umount", str(small)], check=True)


def test_no_worker_is_called_while_the_workers_step(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A process answers one call at a time: the driver would hear nothing until the octave's end."""
    running: list[Any] = []
    calls: list[str] = []
    call, together = InlineExecutor.call, InlineExecutor.call_together

    def call_idle(self: InlineExecutor, worker: int, method: str, *arguments: Any) -> Any:
        assert all(step.is_ready for step in running), f"{method} is called amid steps"
        calls.append(method)
        return call(self, worker, method, *arguments)

    def note_together(self: InlineExecutor, method: str, arguments: Any) -> Any:
        running[:] = together(self, method, arguments)
        return list(running)

    monkeypatch.setattr(InlineExecutor, "call", call_idle)
    monkeypatch.setattr(InlineExecutor, "call_together", note_together)
    with caplog.at_level(logging.INFO):
        rendered(tmp_path / "run", *TINY, "octaves.count=2", "octaves.steps=3", "farm.workers=2", "tiles.size=48")
    assert {"program_times", "thumbnail", "begin_octave", "save"} <= set(calls)
    assert "first step done" in caplog.text
