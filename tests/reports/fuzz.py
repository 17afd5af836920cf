"""Reads files that are damaged in thousands of ways, and says which are neither read nor refused in one line.

    python -m tests.reports.fuzz [seconds=20] [seed=0] [targets=npz,h5,config] [keep=DIR]

Each reader has a process of its own for so many seconds, so that a crash inside a library is one line of the report; the
file that was read last is kept in DIR (a temporary directory otherwise). The same seed makes the same files.
"""

from __future__ import annotations

import signal
import subprocess
import sys
import tempfile
import time
import warnings
from collections import Counter
from pathlib import Path

from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

from render.__main__ import main as render_main
from tests.conftest import TINY
from tests.support.fuzzing import TARGETS, Target, check, contents, of_run

#: Seconds after which a read is ended.
_HANGS_S = 30
#: Files of one seed.
_BATCH = 200
_OF_RUNS = ("run", "progress", "manifest")


def fuzz(target: Target, directory: Path, seconds: float, first_seed: int) -> tuple[int, Counter[str]]:
    """How many files were read, and what was wrong with how often."""
    ends, count, faults = time.monotonic() + seconds, 0, Counter[str]()
    directory.mkdir(parents=True, exist_ok=True)
    while time.monotonic() < ends:

        @seed(first_seed)
        @settings(
            max_examples=_BATCH,
            database=None,
            deadline=None,
            phases=(Phase.generate,),
            suppress_health_check=list(HealthCheck),
        )
        @given(content=st.one_of(st.sampled_from(target.seeds), contents(target)))
        def read(content: bytes) -> None:
            nonlocal count
            if time.monotonic() > ends:
                return
            count += 1
            # Ends the process, inside of a library too, where a read does not come to its end.
            signal.alarm(_HANGS_S)
            fault = check(target, directory, content)
            signal.alarm(0)
            if fault is not None:
                faults[fault] += 1
                (directory / f"fault-{len(faults)}-{Path(target.file).name}").write_bytes(content)

        read()
        first_seed += 1
    return count, faults


def _one(settings_: dict[str, str]) -> int:
    """One target, in a process of its own."""
    keep = Path(settings_["keep"])
    targets = TARGETS | (of_run(keep / "rendered") if settings_["only"] in _OF_RUNS else {})
    target = targets.get(settings_["only"])
    if target is None:
        print(f"{settings_['only']:12} is not there: the run left none")
        return 0
    warnings.simplefilter("ignore")
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    count, faults = fuzz(target, keep / settings_["only"], float(settings_["seconds"]), int(settings_["seed"]))
    print(f"{settings_['only']:12} {count:6,} files, {sum(faults.values())} faults of {len(faults)} kinds", flush=True)
    for fault, times in faults.most_common():
        print(f"  {times:5} x {fault}", flush=True)
    return 1 if faults else 0


def main() -> int:
    """Fuzz all targets, or those asked for; returns 1 where any file was read wrongly."""
    words = {"seconds": "20", "seed": "0"} | dict(word.split("=", 1) for word in sys.argv[1:])
    if "only" in words:
        return _one(words)
    names = words["targets"].split(",") if "targets" in words else [*TARGETS, *_OF_RUNS]
    with tempfile.TemporaryDirectory() as temporary:
        keep = Path(words.get("keep", temporary)).absolute()
        if set(names) & set(_OF_RUNS) and not (keep / "rendered" / "run.json").exists():
            assert render_main(["render", *TINY, "quiet=true", f"output.dir={keep / 'rendered'}"]) == 0
        failed = []
        for name in names:
            more = [f"{key}={words[key]}" for key in ("seconds", "seed")]
            command = [sys.executable, "-m", "tests.reports.fuzz", f"only={name}", f"keep={keep}", *more]
            code = subprocess.run(command, check=False).returncode
            if code < 0:
                print(f"{name:12} ended by signal {-code}: the file is in {keep / name}", flush=True)
            failed += [name] if code else []
    print(f"{len(names) - len(failed)} of {len(names)} readers read or refuse all", *failed)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
