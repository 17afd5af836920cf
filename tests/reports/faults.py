"""Injects seeded faults into renders, sweeps, exports and runs in a store, and checks what they leave and what they make.

    python -m tests.reports.faults [faults=40] [renders=30] [seed=0]

A fault hits a command of a seeded kind at a seeded moment: SIGKILL, SIGTERM, SIGINT or SIGHUP of the command, SIGKILL of
one of its workers or of a process of Ray's, SIGSTOP of a worker, or an object store that hangs for some seconds. The same
command is then given until it is done. Its pictures must be those of a peaceful one, and nothing may be left behind: no
process, socket, shared-memory segment or temporary file. Then small renders follow each other in one environment, and
nothing may grow. Returns 1 where anything differs, is left, or ends in a traceback.
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from render.storage.objects import ObjectStorage
from tests.conftest import INLINE, ROOT
from tests.support.s3 import Server, serving

#: An environment variable that marks all processes of a command, Ray's too.
MARK = "RENDER_FAULTS_REPORT"
_DREAM = ("image=sample:chelsea", "output.width=288", "objective.terms=[mixed1]", "tiles.size=64", "checkpoint.every=1")
_RAY = ("farm.executor=ray", "farm.workers=2", "farm.silence=5", "farm.retries=5")
_RENDER = ("render", *_DREAM, "octaves.count=3", "octaves.steps=12", *_RAY)
_SWEEP = ("sweep", "seed=1,2,3", *_DREAM, "octaves.count=2", "octaves.steps=10", *_RAY)
#: Exit codes that the README documents: done, a part failed, refused or lost, interrupted; and a command that was killed.
_DOCUMENTED = (0, 1, 2, 130, -signal.SIGKILL)
#: Seconds within which everything that belonged to a command must be gone.
_GONE_WITHIN = 60
_TRIES = 6
_SHARED_MEMORY = Path("/dev/shm")


@dataclass
class Tally:
    """What happened, and what went wrong."""

    faults: Counter[str] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)

    def expect(self, good: bool, message: str) -> None:
        if not good:
            self.wrong.append(message)
            print(f"  WRONG: {message}", flush=True)


@dataclass(frozen=True)
class Kind:
    """A command, the pictures it makes, and the faults that can hit it."""

    name: str
    words: Callable[[Path], Sequence[str]]
    pictures: Callable[[Path], list[bytes]]
    faults: tuple[str, ...]


class Surroundings:
    """A private directory for temporary files, and the environment of all commands."""

    def __init__(self, place: Path) -> None:
        self.temporary = place / "tmp"
        self.temporary.mkdir()
        self.mark = f"{os.getpid()}-{time.time_ns()}"
        # What is fetched lies in the user's cache; kernels go where they always do.
        self.environment = {
            **os.environ, "PYTHONPATH": str(ROOT), "RENDER_OVERRIDES": "", "TMPDIR": str(self.temporary), MARK: self.mark,
        }  # fmt: skip
        self._shared = set(_SHARED_MEMORY.iterdir())

    def start(self, words: Sequence[str]) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-m", "render", *words],
            env=self.environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        )  # fmt: skip

    def processes(self) -> list[psutil.Process]:
        """Return every process that a command started and that is no zombie."""
        found = []
        for process in psutil.process_iter():
            with suppress(psutil.Error):
                if process.environ().get(MARK) == self.mark and process.status() != psutil.STATUS_ZOMBIE:
                    found.append(process)
        return found

    def left(self) -> list[str]:
        """Return what a command that has ended left on this machine, once it had time to go."""
        deadline = time.monotonic() + _GONE_WITHIN
        while (left := self._left()) and time.monotonic() < deadline:
            time.sleep(0.5)
        return left

    def _left(self) -> list[str]:
        processes = [f"process {process.pid} {process.name()}" for process in self.processes()]
        shared = [str(path) for path in set(_SHARED_MEMORY.iterdir()) - self._shared]
        return [*processes, *shared, *(f"temporary {path.name}" for path in self.temporary.iterdir())]


def partial_files(place: Path) -> list[str]:
    """Return files below a directory that are named as unfinished ones are."""
    return [str(path.relative_to(place)) for path in place.rglob("*") if "partial" in path.name or path.suffix == ".tmp"]


def strike(fault: str, process: subprocess.Popen[str], around: Surroundings, dice: random.Random) -> bool:
    """Injects a fault; False where there is nothing that it could hit."""
    if fault in ("SIGKILL", "SIGTERM", "SIGINT", "SIGHUP"):
        process.send_signal(getattr(signal, fault))
        return True
    action, _, target = fault.partition(" ")
    names = {"worker": ("ray::",), "raylet": ("raylet",), "gcs": ("gcs_server",)}[target]
    victims = [one for one in around.processes() if one.pid != process.pid and _named(one, names)]
    if not victims:
        return False
    with suppress(psutil.Error):
        dice.choice(victims).send_signal(signal.SIGSTOP if action == "stop" else signal.SIGKILL)
        return True
    return False


def _named(process: psutil.Process, names: Sequence[str]) -> bool:
    with suppress(psutil.Error):
        words = process.cmdline()
        return bool(words) and any(name in words[0] and "Agent" not in words[0] for name in names)
    return False


def through(
    kind: Kind,
    fault: str,
    place: Path,
    around: Surroundings,
    dice: random.Random,
    delay: float,
    store: Server | None,
    tally: Tally,
) -> None:
    """Gives a command, hits it once after `delay` s, and gives it again until it is done."""
    words = list(kind.words(place))
    for attempt in range(_TRIES):
        process = around.start(words)
        if attempt == 0:
            _wait(process, delay)
            if process.poll() is None:
                if fault == "store":
                    assert store is not None
                    store.process.send_signal(signal.SIGSTOP)
                    time.sleep(dice.uniform(1, 8))
                    store.process.send_signal(signal.SIGCONT)
                elif not strike(fault, process, around, dice):
                    print("    nothing to hit", flush=True)
        output, _ = process.communicate(timeout=600)
        where = f"{kind.name}, {fault} after {delay:.1f} s, attempt {attempt + 1}"
        tally.expect("Traceback" not in output, f"{where}: traceback\n{output[-2000:]}")
        tally.expect(process.returncode in _DOCUMENTED, f"{where}: exit code {process.returncode}\n{output[-1000:]}")
        for process_left in around.processes() if fault.startswith("stop") else []:
            with suppress(psutil.Error):
                if process_left.status() == psutil.STATUS_STOPPED:
                    tally.expect(False, f"{where}: a stopped worker is still there")
                    process_left.kill()
        if process.returncode == 0:
            break
    else:
        tally.expect(False, f"{kind.name}, {fault}: not done after {_TRIES} attempts\n{output[-1000:]}")


def _wait(process: subprocess.Popen[str], seconds: float) -> None:
    with suppress(subprocess.TimeoutExpired):
        process.wait(seconds)


def kinds(place: Path, bucket: str) -> list[Kind]:
    """The commands that are hit. Exports read a run that is finished."""
    signals = ("SIGKILL", "SIGTERM", "SIGINT", "SIGHUP")
    farm = (*signals, "kill worker", "stop worker", "kill raylet", "kill gcs")
    finished = place / "finished"
    targets = "output.also=[{0}/a.tif,{0}/a.dzi,{0}/a.jpg]"
    return [
        Kind(
            "render", lambda out: (*_RENDER, f"output.dir={out}/run"),
            lambda out: [(out / "run/preview.png").read_bytes()], farm,
        ),
        Kind(
            "sweep", lambda out: (*_SWEEP, f"sweep.dir={out}/sweep"),
            lambda out: [path.read_bytes() for path in sorted((out / "sweep/points").glob("*/preview.png"))], farm,
        ),
        Kind(
            "export",
            lambda out: ("export", f"run={finished}", f"output.path={out}/a.png", targets.format(out), "overwrite=true"),
            lambda out: [(out / name).read_bytes() for name in ("a.png", "a.tif", "a.jpg", "a/dream.dzi")], signals,
        ),
        Kind(
            "store", lambda out: (*_RENDER[:-4], INLINE, f"output.dir={bucket}/{out.name}"),
            lambda out: [ObjectStorage(f"{bucket}/{out.name}").load("preview.png")[0]], (*signals, "store"),
        ),
    ]  # fmt: skip


def hit(place: Path, around: Surroundings, faults: int, dice: random.Random, tally: Tally) -> None:
    """Injects `faults` faults and checks each one's result and remains."""
    with serving(place / "store.log") as store:
        around.environment |= store.environment
        around_kinds = kinds(place, store.make_bucket("faults"))
        finished = around.start([*_RENDER[:-4], INLINE, f"output.dir={place}/finished"])
        assert finished.communicate()[0] is not None and finished.returncode == 0
        peace, spans = {}, {}
        for kind in around_kinds:
            out = place / f"peace-{kind.name}"
            out.mkdir()
            begun = time.monotonic()
            process = around.start(kind.words(out))
            output, _ = process.communicate()
            assert process.returncode == 0, output
            peace[kind.name], spans[kind.name] = kind.pictures(out), time.monotonic() - begun
            tally.expect(not (left := around.left()), f"{kind.name} in peace left {left}")
            print(f"{kind.name} in peace: {spans[kind.name]:.0f} s, {len(peace[kind.name])} pictures", flush=True)
        for number in range(faults):
            kind = around_kinds[number % len(around_kinds)]
            fault = kind.faults[dice.randrange(len(kind.faults))]
            out = place / f"war-{number}"
            out.mkdir()
            delay = dice.uniform(0.1, 0.95) * spans[kind.name]
            print(f"{number + 1:3d}  {kind.name}: {fault} after {delay:.1f} s", flush=True)
            through(kind, fault, out, around, dice, delay, store, tally)
            with suppress(OSError):
                same = kind.pictures(out) == peace[kind.name]
                tally.expect(same, f"{kind.name}, {fault} after {delay:.1f} s: other pictures")
            tally.expect(not (left := around.left()), f"{kind.name}, {fault} after {delay:.1f} s: left {left}")
            tally.expect(not (rest := partial_files(out)), f"{kind.name}, {fault}: unfinished files {rest}")
            tally.faults[f"{kind.name} {fault}"] += 1


def follow(place: Path, around: Surroundings, renders: int, tally: Tally) -> None:
    """Renders small pictures one after the other, as one shell would, and checks that nothing grows."""
    for number in range(renders):
        words = ("render", *_DREAM, "octaves.count=1", "octaves.steps=1", *_RAY[:2], f"output.dir={place}/small-{number}")
        process = around.start(words)
        output, _ = process.communicate()
        tally.expect(process.returncode == 0, f"small render {number + 1}: exit code {process.returncode}\n{output[-500:]}")
        tally.expect(not (left := around.left()), f"small render {number + 1} left {left}")
    print(f"{renders} small renders in a row", flush=True)


def main() -> int:
    """Injects faults and prints what they did; returns 1 where anything was wrong."""
    settings = dict(word.split("=") for word in sys.argv[1:])
    dice, tally, begun = random.Random(int(settings.get("seed", 0))), Tally(), time.monotonic()
    with tempfile.TemporaryDirectory() as directory:
        place = Path(directory)
        around = Surroundings(place)
        hit(place, around, int(settings.get("faults", 40)), dice, tally)
        follow(place, around, int(settings.get("renders", 30)), tally)
    for name, count in sorted(tally.faults.items()):
        print(f"{count:4} x {name}")
    print(f"{tally.faults.total()} faults in {time.monotonic() - begun:.0f} s, {len(tally.wrong)} things wrong")
    for line in tally.wrong:
        print(f"- {line}")
    return 1 if tally.wrong else 0


if __name__ == "__main__":
    sys.exit(main())
