"""The benchmark for accelerators, proven where there is none: tiny sizes on the CPU."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.benchmarks.gpu import report, summary
from tests.conftest import ROOT


@pytest.mark.slow
def test_the_gpu_benchmark_measures_both_precisions(tmp_path: Path) -> None:
    finished = subprocess.run(
        [sys.executable, "-m", "tests.benchmarks.gpu", "--quick", "--json", "--layer", "mixed0", "--profile", "trace"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT), "RENDER_OVERRIDES": ""},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert finished.returncode == 0, finished.stderr
    found = json.loads(finished.stdout)
    assert found["platform"] == "cpu"
    for section in ("kernel", "render"):
        for precision in ("float32", "bfloat16"):
            one = found[section][precision]
            assert min(one["megapixels_per_second"], one["tflops"], found["product_tflops"][precision]) > 0
    assert 0 < found["gradient_error"] < 0.5
    assert 0 < found["picture"]["mean_difference"] < 10
    assert [(one["side"], one["batch"]) for one in found["batches"]] == [(96, 1), (96, 2), (128, 1), (128, 2)]
    resident, host = found["steps"]
    assert (resident["resident"], host["resident"]) == (True, False)
    for one in (*found["batches"], resident, host):
        assert min(one["megapixels_per_second"], one["tflops"], one["share_of_product"]) > 0
    assert resident["extrapolated"]
    assert resident["gigapixel_seconds"] == pytest.approx(1e9 / resident["side"] ** 2 * resident["step_seconds"])
    assert [path.name for path in tmp_path.iterdir()] == ["trace"]
    assert list(tmp_path.rglob("*.xplane.pb"))
    lines = report(found).splitlines()
    assert [line.split()[0] for line in lines] == [
        "device", "product", "kernel", "kernel", "gradient", *["windows"] * 4, "step", "step", "gigapixel", "render",
        "render", "picture",
    ]  # fmt: skip
    assert "extrapolated from a block of 160 px" in lines[11]


def test_what_nvidia_smi_says_is_read() -> None:
    """Its lines with `--format=csv,noheader,nounits`: percent, MiB, W; some devices say nothing of one of them."""
    found = summary(["97, 40000, 512.50\n", "99, 60000, 600.10\n", "[N/A], 50000, [N/A]\n"])
    assert found == {
        "utilization_percent": 98.0,
        "memory_gb": pytest.approx(62.9, abs=0.05),
        "watts": pytest.approx(556.3),
    }
    assert summary([]) is None
    assert summary(["[N/A], [N/A], [N/A]\n"]) is None
