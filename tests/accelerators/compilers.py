"""Compilers for accelerators: whether they are installed, and programs compiled by them in a process of their own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryFile

from tests.accelerators.requests import DEVICES, Report, Request
from tests.conftest import ROOT

#: Where `make test` installs them; another place by RENDER_COMPILERS.
DIRECTORY = Path(os.environ.get("RENDER_COMPILERS", Path(sys.prefix) / "compilers"))
_PACKAGES = {"cuda": ("jax_plugins/xla_cuda12", "jax_cuda12_plugin", "nvidia/cuda_nvcc"), "tpu": ("libtpu",)}
_ENVIRONMENT = {
    "cuda": {"CUDA_VISIBLE_DEVICES": "-1"},
    # libtpu otherwise asks the cloud which machine this is, and admits one process.
    "tpu": {
        "ALLOW_MULTIPLE_LIBTPU_LOAD": "1", "TPU_SKIP_MDS_QUERY": "1", "TPU_ACCELERATOR_TYPE": "v5litepod-4",
        "TPU_WORKER_HOSTNAMES": "localhost", "TPU_LOG_DIR": "disabled", "TPU_MIN_LOG_LEVEL": "3",
    },
}  # fmt: skip
_SHOWN_CHARACTERS = 4000


def missing(platform: str) -> str | None:
    """Return why programs cannot be compiled for `cuda` or `tpu` here; None if they can."""
    absent = [name for name in _PACKAGES[platform] if not (DIRECTORY / name).exists()]
    return (
        f"needs the compiler of {platform}, which `make test` installs: no {absent[0]} in {DIRECTORY}" if absent else None
    )


def compiled(requests: Sequence[Request], flags: str = "") -> Iterator[Report]:
    """Compile programs, all for one platform, and return the report of each as soon as it is there.

    Args:
        requests: The programs.
        flags: XLA's flags.

    Raises:
        RuntimeError: One could not be compiled; the message ends with what its process said last.
    """
    (platform,) = {DEVICES[request.device][0] for request in requests}
    environment = {
        **os.environ, **_ENVIRONMENT[platform], "JAX_PLATFORMS": "cpu", "PYTHONPATH": str(ROOT),
        "XLA_FLAGS": flags,
    }  # fmt: skip
    words = [
        sys.executable,
        "-m",
        "tests.accelerators.compile",
        str(DIRECTORY),
        *(json.dumps(vars(one)) for one in requests),
    ]
    count = 0
    # Not shown: XLA's compilers say at every start that there is no driver.
    with TemporaryFile("w+") as messages:
        process = subprocess.Popen(words, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=messages, text=True)
        assert process.stdout is not None
        try:
            for line in process.stdout:
                yield Report.from_plain(json.loads(line))
                count += 1
            code = process.wait()
        finally:
            with suppress(ProcessLookupError):
                process.kill()
            process.wait()
            process.stdout.close()
        if code or count != len(requests):
            messages.seek(0)
            last = messages.read()[-_SHOWN_CHARACTERS:]
            raise RuntimeError(f"the compiler ended with code {code} after {count} of {len(requests)} programs:\n{last}")
