"""Benchmarks, with tiny sizes: that they measure what they say, not how fast anything is."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from render.dreaming.objectives import KernelInputs, resolve
from render.geometry.geometry import Axis, KernelShape, round_up
from render.networks.googlenet import GOOGLENET
from render.networks.inception_v3 import INCEPTION_V3
from render.networks.nodes import InceptionBlock
from tests.benchmarks import colour, compiling, forms, kernels, layers, trained
from tests.benchmarks.contender import CHANNELS_LAST, EAGER, OURS, TENSORFLOW, TENSORFLOW_READY, Contender, core_side
from tests.benchmarks.gpu_render import report, summary
from tests.benchmarks.others import Others
from tests.benchmarks.table import Table, interleaved, ratio
from tests.conftest import ROOT
from tests.support.untiled import kernel_of

needs_torch = pytest.mark.skipif(
    importlib.util.find_spec("torch") is None, reason="needs PyTorch, which only the extra bench installs"
)


@pytest.mark.slow
def test_the_gpu_benchmark_measures_both_precisions(tmp_path: Path) -> None:
    finished = subprocess.run(
        [
            sys.executable,
            "-m",
            "tests.benchmarks.gpu_render",
            "--quick",
            "--json",
            "--layer",
            "mixed0",
            "--profile",
            "trace",
        ],
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


def test_a_table_aligns_numbers_to_the_right_and_words_to_the_left() -> None:
    table = Table(
        "speed",
        "How fast",
        ("layer", "Mpx/s", "bytes"),
        [{"layer": "mixed5", "Mpx/s": 0.41234, "bytes": 1234567.0}, {"layer": "m", "Mpx/s": 12.0}],
        {"1.0 x PyTorch": True, "2.0 x PyTorch": False},
        ("on a quiet machine",),
    )
    assert table.text().splitlines() == [
        "How fast",
        "layer   Mpx/s      bytes",
        "mixed5  0.412  1,234,567",
        "m          12",
        "  reached  1.0 x PyTorch",
        "  MISSED   2.0 x PyTorch",
        "  on a quiet machine",
    ]
    assert json.loads(json.dumps(table.plain()))["rows"][1] == {"layer": "m", "Mpx/s": 12.0}


def test_contenders_take_turns_and_are_compared_within_rounds() -> None:
    calls: list[str] = []
    figures = {"a": iter([99.0, 2.0, 8.0, 3.0]), "b": iter([99.0, 1.0, 2.0, 3.0])}

    def call(name: str):
        return lambda: (calls.append(name), next(figures[name]))[1]

    found = interleaved({"a": call("a"), "b": call("b")}, rounds=3)
    assert calls == ["a", "b", "a", "b", "b", "a", "a", "b"]
    # The first call of each does not count.
    assert found == {"a": [2.0, 8.0, 3.0], "b": [1.0, 2.0, 3.0]}
    # Of 2, 4 and 1; the ratio of medians would be 1.5.
    assert ratio(found, "a", "b") == 2.0


@needs_torch
@pytest.mark.parametrize("channels_last", [False, True])
@pytest.mark.parametrize(("model", "layer"), [("inception_v3", "mixed4"), ("googlenet", "inception_4b")])
def test_pytorch_computes_the_same_gradient(loaded_by_name, model: str, layer: str, channels_last: bool) -> None:
    from tests.benchmarks.torch_network import TorchKernel

    loaded = loaded_by_name(model)
    # Odd and even, so that pools which round up have something to round.
    rows, columns = 178, 203
    theirs = TorchKernel(loaded.architecture.truncated([layer]), loaded.parameters, channels_last=channels_last)
    objective = resolve([layer], loaded.architecture)
    given = KernelInputs(0, objective.factors(loaded.architecture, (rows, columns)))
    shape, kernel = KernelShape((rows, columns), (rows, columns)), kernel_of(loaded, objective)
    apart = []
    for seed in range(3):
        window = np.random.default_rng(seed).normal(128, 30, (rows, columns, 3)).clip(0, 255).astype(np.float32)
        other, ours = theirs(window), np.asarray(kernel(shape, window, given, (0, 0)))
        assert other.dtype == np.float32
        apart.append(np.linalg.norm(other - ours) / np.linalg.norm(ours))
    # Not of every window: where an activation is within a rounding of zero or of its neighbour in a pool, one of the two
    # passes its gradient on and the other does not, which in float64 is no different.
    assert np.median(apart) < 1e-5


@pytest.mark.skipif(not TENSORFLOW_READY.exists(), reason="needs TensorFlow, which only tensorflow=true installs")
@pytest.mark.parametrize(("model", "layer"), [("inception_v3", "mixed4"), ("googlenet", "inception_4b")])
def test_tensorflow_computes_the_same_gradient(model: str, layer: str, tmp_path: Path) -> None:
    if reason := trained.missing(model):
        pytest.skip(reason)
    apart = []
    with Contender(OURS) as ours, Contender(TENSORFLOW) as theirs:
        # Odd and even, so that pools which round up have something to round; small, so that little is near a tie.
        for side in (88, 101, 112, 123, 134):
            gradients = []
            for contender in (ours, theirs):
                contender.prepare(model, layer, side)
                gradients.append(contender.gradient(tmp_path / "gradient.npy"))
            assert gradients[0].shape == gradients[1].shape == (side, side, 3)
            apart.append(np.linalg.norm(gradients[1] - gradients[0]) / np.linalg.norm(gradients[0]))
    # As above.
    assert np.median(apart) < 1e-5


@pytest.mark.parametrize("architecture", [GOOGLENET, INCEPTION_V3], ids=lambda architecture: architecture.name)
def test_a_core_is_the_largest_that_its_window_serves(architecture) -> None:
    for layer in architecture.layers.values():
        if isinstance(layer.node, InceptionBlock) and layer.receptive_field < 1000:
            core = core_side(layer, 2048)
            halo = round_up(layer.receptive_field - 1, layer.stride)
            windows = [Axis(100_000, tile, halo, 32, layer.stride, "reflect").window for tile in (core, core + 1)]
            assert windows == [2048, 2048 + layer.stride]
    assert core_side(INCEPTION_V3.layer("mixed5"), 1024) == 0


def test_what_others_take_of_the_machine_is_told_from_what_is_ones_own() -> None:
    others = Others()
    while time.process_time() < 0.2:
        pass
    child = subprocess.Popen([sys.executable, "-c", "while True: pass"])
    try:
        time.sleep(1.0)
        alone = others.share
    finally:
        child.kill()
        child.wait()
    # Now that it has ended, the child's time is another's.
    assert alone < others.share <= 1.0
    assert re.fullmatch(r"other programs took \d+ % of the machine meanwhile", others.note)


def test_a_contender_that_dies_is_an_error() -> None:
    with (
        pytest.raises(RuntimeError, match=r"^ours ended with code 1: what it said is above$"),
        Contender(OURS) as contender,
    ):
        contender.prepare("inception_v3", "mixed99", 128)


@needs_torch
@pytest.mark.slow
def test_kernels_are_measured_beside_pytorch(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    goals = [("inception_v3", "mixed0", 160, EAGER, 1e-6), ("inception_v3", "mixed0", 160, CHANNELS_LAST, 1e6)]
    monkeypatch.setattr(kernels, "GOALS", goals)
    monkeypatch.setattr(trained, "GOOGLENET", tmp_path / "none.npz")
    table = kernels.measure(quick=True)
    (row,) = table.rows
    assert (row["model"], row["layer"], row["window"], row["core"]) == ("inception_v3", "mixed0", 160, 25)
    assert row["of core Mpx/s"] == pytest.approx(row[f"{OURS} Mpx/s"] * 25**2 / 160**2)
    for rival in (EAGER, CHANNELS_LAST):
        # One round: the median is the round itself.
        assert row[f"/ {rival}"] == pytest.approx(row[f"{OURS} Mpx/s"] / row[f"{rival} Mpx/s"])
        if sys.platform == "linux":
            # A good part of all activations, and with scratch of each thread far from what the process holds anyway.
            assert 0.3 < 1e9 * row[f"{rival} GB"] / INCEPTION_V3.truncated(["mixed0"]).activation_bytes(160, 160) < 10
    assert 0 < row["apart"] < 1e-2
    assert list(table.goals.values()) == [True, False]
    assert "googlenet is left out: it needs none.npz" in table.text()


@pytest.mark.slow
def test_kernels_are_measured_without_pytorch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kernels, "QUICK_LAYERS", {"inception_v3": ("mixed0",)})
    monkeypatch.setattr(kernels.importlib.util, "find_spec", lambda name: None)
    table = kernels.measure(quick=True)
    (row,) = table.rows
    assert row[f"{OURS} Mpx/s"] > 0
    assert not [column for column in table.columns if "torch" in column]
    assert "PyTorch is left out" in table.text()


@pytest.mark.slow
def test_the_time_of_every_node_is_measured() -> None:
    table = layers.measure(quick=True)
    nodes = [row["node"] for row in table.rows]
    assert nodes[:8] == [node.name for node in INCEPTION_V3.truncated(["mixed0"]).nodes]
    assert sorted(nodes[8:-1]) == [
        "- 1 x AvgPool at 1/8", "- 1 x Conv 5x5 at 1/8", "- 2 x Conv 3x3 at 1/8", "- 4 x Conv 1x1 at 1/8",
    ]  # fmt: skip
    assert nodes[-1] == "= the kernel"
    assert sum(row["share %"] for row in table.rows[:8]) == pytest.approx(100)
    # Arithmetic over time and lost time are two views of one figure.
    for row in table.rows[:-1]:
        if "GFLOP/s" in row:
            both = row["forward ms"] + row["backward ms"]
            assert row["lost ms"] == pytest.approx(both * (1 - row["of sgemm %"] / 100), abs=1e-9)


def test_parts_have_the_arithmetic_of_the_whole() -> None:
    """A node alone is given what it is given in the network: rows, columns and channels."""
    network = GOOGLENET.truncated(["inception_4c"])
    sizes = dict(layers.input_sizes(network.nodes, (200, 264), network.output_sizes(200, 264)))
    parts = [(layers.Part.of(network.layer(node.name)), sizes[node.name]) for node in network.nodes]
    assert sum(part.gradient_flops(size, size) for part, size in parts) == network.gradient_flops((200, 264), (200, 264))


@pytest.mark.slow
def test_compiling_is_measured_cold_and_cached() -> None:
    (row,) = compiling.measure(quick=True).rows
    assert (row["compiled"], row["compiled again"]) == (1, 0)
    assert 0 < row["cached s"] < row["cold s"]
    assert row["MB kept"] > 0


@pytest.mark.slow
def test_colours_and_forms_are_measured() -> None:
    table = colour.measure(quick=True)
    assert [row["settings"] for row in table.rows] == list(colour.SETTINGS) * len(colour.PICTURES)
    for picture in colour.PICTURES:
        noise = {row["settings"]: row["noise of colour"] for row in table.rows if row["picture"] == picture}
        assert noise["both"] < noise["shoulder"] and noise["decorrelate"] < noise["default"]
    assert len(table.goals) == 2 * len(colour.PICTURES)
    table = forms.measure(quick=True)
    assert [row["width px"] for row in table.rows] == [96, 128]
    for row in table.rows:
        assert 0 < row["coarse %"] < 100
        assert row["/ width"] == pytest.approx(row["largest form px"] / row["width px"])
