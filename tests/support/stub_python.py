"""A stub of Python for Slurm's batch step: the program is real, Ray and the render are shell scripts."""

from __future__ import annotations

import sys
import sysconfig
from pathlib import Path

from tests.conftest import ROOT

_STUB = """#!/bin/bash
# argv[0] is this file, so that Python takes it for its own executable.
calls={calls}
export PYTHONPATH={root}:{packages} PYTHONDONTWRITEBYTECODE=1
case "$*" in
  *"render.cluster.slurm_node ray start"*)
    echo "$SLURMD_NODENAME ray ${{*:5}} mode=$RAY_AUTH_MODE token=${{#RAY_AUTH_TOKEN}}" >> "$calls"
    {ray}
    ;;
  "-m render "*)
    # SIGINT comes blocked, and a shell cannot let it in as the render does.
    if [ -z "$LETS_SIGINT_IN" ]; then
      LETS_SIGINT_IN=1 exec {python} -c 'import os, signal, sys
signal.pthread_sigmask(signal.SIG_UNBLOCK, {{signal.SIGINT}})
os.execv(sys.argv[1], sys.argv[1:])' "$0" "$@"
    fi
    echo "render ${{*:3}} RENDER_OVERRIDES=${{RENDER_OVERRIDES-unset}}" >> "$calls"
    {render}
    ;;
  *) exec -a "$0" {python} "$@" ;;
esac
"""
#: A Ray that starts, and that SIGTERM would end.
RAY = "echo Ray runtime started; exec sleep 600"


def stub_python(directory: Path, render: str, ray: str = RAY) -> tuple[Path, Path]:
    """Write the stub into a directory; return its path, and the file to which it adds a line for each call."""
    path, calls = directory / "python", directory / "calls"
    calls.touch()
    path.write_text(
        _STUB.format(
            root=ROOT, packages=sysconfig.get_paths()["purelib"], calls=calls, ray=ray, render=render,
            python=Path(sys.executable).resolve(),
        )
    )  # fmt: skip
    path.chmod(0o755)
    return path, calls
