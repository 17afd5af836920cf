"""Kernels in bfloat16 and TensorFloat-32: the distance of their gradients and dreams from float32, which stays exact."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import jax
import numpy as np
import pytest

from render.config.compose import load_config
from render.dreaming.executables import Build
from render.dreaming.kernel import Kernel
from render.dreaming.objectives import KernelInputs, resolve
from render.dreaming.programs import Programs
from render.farm.worker.kernel_recipe import KernelRecipe
from render.farm.worker.process import KernelCache
from render.geometry.geometry import KernelShape
from render.job.job import draft, prepared
from render.networks.network import Network
from render.networks.platforms import tracing_for
from render.networks.weights import Loaded
from tests.conftest import INLINE
from tests.support.farm_job import dreamed
from tests.support.untiled import photo

SHAPE = KernelShape((192, 192), (192, 192))


def kernel_in(precision: str, loaded: Loaded, layer: str) -> Kernel:
    network = Network(loaded.architecture.truncated([layer]), loaded.parameters, precision=precision)
    return Kernel(Programs(network), [resolve([layer], loaded.architecture)], loaded)


def lowered(precision: str, loaded: Loaded, layer: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """The gradient's program as it is given to XLA."""
    texts: list[str] = []

    def keep(self: Programs, key: object, build: Build) -> None:
        program, arguments = build()
        texts.append(program.lower(*arguments).as_text())

    monkeypatch.setattr(Programs, "program", keep)
    kernel = kernel_in(precision, loaded, layer)
    kernel.programs.gradient(kernel.objectives[0], kernel._constants_of(0), SHAPE)
    return texts[0]


@pytest.mark.parametrize(("model", "layer"), [("inception_v3", "mixed0"), ("googlenet", "inception_3a")])
def test_a_float32_kernel_rounds_nothing_and_a_bfloat16_one_convolves_in_nothing_else(
    model: str, layer: str, loaded_by_name, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The gradient's own convolutions included.

    JAX would compute these in float32 if it were asked for float32 sums.
    """
    program = lowered("float32", loaded_by_name(model), layer, monkeypatch)
    assert "bf16" not in program
    assert "stablehlo.convert" not in program
    half = lowered("bfloat16", loaded_by_name(model), layer, monkeypatch)
    # Products of channels are 1x1 convolutions; the objective's own sum is none.
    for kind, least in (("stablehlo.convolution", 8), ("contracting_dims = [3]", 4)):
        lines = [line for line in half.splitlines() if kind in line]
        assert len(lines) == sum(kind in line for line in program.splitlines()) >= least
        assert all("bf16" in line and "f32" not in line for line in lines)


@pytest.mark.parametrize(
    ("model", "layer", "bound"),
    # Measured at 256 x 256 px: V3 0.22 (mixed0), 0.28 (mixed4), 0.32 (mixed7); GoogLeNet 0.16 (3b), 0.18 (4c), 0.21 (5a);
    # slim 0.38 (mixed4). Rounding the gradient alone makes 0.004 of it: the rest is which value of a pool is the largest.
    [
        ("inception_v3", "mixed0", 0.35),
        ("inception_v3", "mixed4", 0.4),
        ("googlenet", "inception_4c", 0.3),
        ("slim", "mixed4", 0.5),
    ],
)
def test_bfloat16_gradients_are_near_those_of_float32(model: str, layer: str, bound: float, loaded_by_name) -> None:
    """Relative error in L2; mean|g|, the step's divisor, agrees within 2 %.

    Results are float32.
    """
    loaded = loaded_by_name(model)
    exact, rounded = (
        np.asarray(kernel_in(precision, loaded, layer)(SHAPE, photo(*SHAPE.window), KernelInputs(0, (1.0,)), (0, 0)))
        for precision in ("float32", "bfloat16")
    )
    assert rounded.dtype == exact.dtype == np.float32
    error = np.linalg.norm(rounded - exact) / np.linalg.norm(exact)
    assert 1e-3 < error < bound
    assert np.abs(rounded).mean() == pytest.approx(np.abs(exact).mean(), rel=0.02)


def test_tensorfloat32_is_float32_on_cpus(inception: Loaded) -> None:
    """To the bit: only tensor cores and matrix units multiply otherwise."""
    shape = KernelShape((96, 96), (96, 96))
    exact, reduced = (
        np.asarray(kernel_in(precision, inception, "mixed0")(shape, photo(96, 96), KernelInputs(0, (1.0,)), (0, 0)))
        for precision in ("float32", "tensorfloat32")
    )
    assert np.abs(exact).mean() > 0
    assert exact.tobytes() == reduced.tobytes()


def test_gpus_are_told_by_name_to_multiply_matrices_in_tensorfloat32(inception: Loaded) -> None:
    """And convolutions by `HIGH`, in the gradient too; float32 and bfloat16 multiply as they are everywhere."""
    architecture = inception.architecture.truncated(["mixed0"])

    def lowered_for_gpus(precision: str) -> list[str]:
        with tracing_for("gpu"):
            programs = Programs(Network(architecture, inception.parameters, precision=precision))
            objective = resolve(["mixed0"], inception.architecture)
            arguments = programs.argument_shapes(objective, [()], KernelShape((96, 96), (96, 96)))
            traced = jax.jit(partial(programs.objective_gradient, objective, (96, 96))).trace(arguments)
            program = traced.lower(lowering_platforms=("cuda",)).as_text()
        return [
            line for line in program.splitlines() if "stablehlo.convolution" in line or "contracting_dims = [3]" in line
        ]

    reduced = lowered_for_gpus("tensorfloat32")
    assert sum("algorithm = <lhs_precision_type = tf32" in line for line in reduced) == 4
    assert sum("precision HIGH>" in line for line in reduced) == len(reduced) - 4 >= 14
    for precision in ("float32", "bfloat16"):
        exact = lowered_for_gpus(precision)
        assert len(exact) == len(reduced)
        assert all("HIGHEST" in line and "HIGH>" not in line and "tf32" not in line for line in exact)


def test_kernels_tell_precisions_apart(inception: Loaded) -> None:
    """A process that has rendered in one precision builds another kernel for the other."""
    kernels = KernelCache()
    objectives = (resolve(["mixed0"], inception.architecture),)
    programs_by_precision = {
        precision: kernels.find(KernelRecipe(inception, objectives, precision)).programs
        for precision in ("float32", "bfloat16", "tensorfloat32", "float32")
    }
    assert kernels.networks_built == 3
    dtypes = {
        precision: {array.dtype.name for array in jax.tree.leaves(programs.state)}
        for precision, programs in programs_by_precision.items()
    }
    assert dtypes == {"float32": {"float32"}, "tensorfloat32": {"float32"}, "bfloat16": {"float32", "bfloat16"}}


def test_dreams_in_bfloat16_look_like_those_in_float32(tmp_path: Path) -> None:
    """Ten steps over two octaves: nearer to each other than to another seed's jitter."""
    words = ("image=sample:chelsea", "output.width=160", "octaves.count=2", "octaves.steps=5", "objective.terms=[mixed3]")

    def change(precision: str, seed: int = 0) -> np.ndarray:
        more = (INLINE, f"model.precision={precision}", f"seed={seed}", f"output.dir={tmp_path / f'{precision}-{seed}'}")
        with prepared(draft(load_config("preview", [*words, *more]))) as job:
            final = job.plan.final
            canvas = dreamed(job, job.conductor())
            assert canvas.dtype == np.float32
            return canvas - job.resolved.source.at(final.shape, final.grid.canvas)

    exact, rounded, other = change("float32"), change("bfloat16"), change("float32", seed=1)
    # Measured: 3.3 levels of 255, and 5.4 between the seeds; correlated by 0.80, and 0.49.
    apart, usual = np.abs(rounded - exact).mean(), np.abs(other - exact).mean()
    assert 0 < apart < 0.8 * usual
    assert apart < 4.5
    assert np.corrcoef(exact.ravel(), rounded.ravel())[0, 1] > 0.7
