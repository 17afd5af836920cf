"""What XLA would run on an H200, an A100 and a TPU v5e, compiled here without one: fusion, precision, memory, copies.

cuDNN's autotuning is the only step that a device would add. Nothing here says how fast a program is.
"""

from __future__ import annotations

import math
import re
import sys
from collections.abc import Callable, Mapping, Sequence

import pytest

from render.config.schema import PRECISIONS
from render.dreaming.device_resample import tile_shape
from render.dreaming.stage import Conditioning, Stage
from render.geometry.blocks import deal_blocks
from render.geometry.geometry import Axis, Grid
from render.networks.architecture import Architecture
from render.networks.convolutions import is_mix
from render.networks.nodes import Conv, InceptionBlock, MaxPool, Node
from render.networks.platforms import tracing_for
from render.networks.weights import MODELS
from render.planning.device_memory import estimated_bytes
from render.planning.device_traffic import kernel_work
from render.planning.residence import update_bytes
from tests.accelerators.compilers import DIRECTORY, compiled, missing
from tests.accelerators.programs import TILE_INPUTS
from tests.accelerators.requests import DEVICES, Report, Request
from tests.conftest import ROOT

SIDE = 512
NETWORKS = {"inception_v3": "mixed5", "googlenet": "inception_4c"}
#: For each precision: XLA's number type, and how it may multiply: convolutions, and matrices.
WAYS = {
    "float32": ("f32", "highest", "highest"),
    # cuDNN may use TensorFloat-32 with HIGH; XLA's own products do so only if they are told by name.
    "tensorfloat32": ("f32", "high", "dot_tf32_tf32_f32"),
    "bfloat16": ("bf16", "highest", "highest"),
}
GPUS = [device for device, (platform, _) in DEVICES.items() if platform == "cuda"]
CASES = [
    pytest.param(device, model, precision, id=f"{device}-{model}-{precision}")
    for device in GPUS
    for model in NETWORKS
    for precision in PRECISIONS
]
KERNELS = [Request(*case.values[:2], NETWORKS[case.values[1]], case.values[2], SIDE) for case in CASES]
H200 = [request for request in KERNELS if request.device == "h200"]
#: Bytes that the kernels of a window of 512 px moved at the last look, by kind, in MB.
MEGABYTES = {
    ("h200", "inception_v3", "bfloat16"): {"convolution": 128.7, "dot": 54.3, "other": 209.6},
    ("a100", "inception_v3", "bfloat16"): {"convolution": 128.7, "dot": 50.9, "other": 187.4},
    ("h200", "inception_v3", "float32"): {"convolution": 257.4, "dot": 101.7, "other": 363.8},
    ("a100", "inception_v3", "float32"): {"convolution": 257.4, "dot": 101.7, "copy": 37.5, "other": 364.1},
    ("h200", "googlenet", "bfloat16"): {"convolution": 59.0, "dot": 59.8, "other": 263.0},
    ("a100", "googlenet", "bfloat16"): {"convolution": 59.0, "dot": 52.8, "other": 236.5},
    ("h200", "googlenet", "float32"): {"convolution": 118.1, "dot": 109.2, "other": 472.0},
    ("a100", "googlenet", "float32"): {"convolution": 118.1, "dot": 103.3, "copy": 17.0, "other": 439.1},
}
#: A window of another size than the table of memory was measured with.
LARGER = Request("h200", "inception_v3", "mixed5", "bfloat16", 1024)
#: Programs of a resident step beside the kernel, of four windows with cores of half their side.
AROUND = [
    Request("h200", "inception_v3", "mixed0", "float32", SIDE, SIDE // 2, 4, name) for name in ("cut", "store", "update")
]
#: Programs of a tile's filters and update, of a core of 256 px.
TILE = [
    Request("h200", "inception_v3", "mixed0", "float32", SIDE, SIDE // 2, 1, name)
    for name in ("levels", "filter", "cascade", "step")
]
#: Programs of an octave change.
CHANGE = [
    Request("h200", "inception_v3", "mixed0", "float32", SIDE, program=name) for name in ("tile", "write", "subtract")
]
#: Programs that multiply outside of the network's convolutions.
OUTSIDE = [
    Request("a100", "inception_v3", "mixed0", "float32", 128, program="terms"),
    Request("a100", "inception_v3", "mixed0", "bfloat16", 128, program="terms"),
    Request("a100", "inception_v3", "conv2d_2b_3x3", "float32", 96, program="sums"),
    Request("a100", "inception_v3", "conv2d_2b_3x3", "float32", 96, program="grams"),
    Request("a100", "googlenet", "inception_5b", "float32", 224, program="logits"),
]
TPU = [Request("v5e", "inception_v3", "conv2d_2a_3x3", precision, 96) for precision in PRECISIONS]

pytestmark = pytest.mark.slow


def reports(requests: Sequence[Request]) -> Mapping[Request, Report]:
    reason = missing(DEVICES[requests[0].device][0])
    if reason:
        pytest.skip(reason)
    return dict(zip(requests, compiled(requests), strict=True))


@pytest.fixture(scope="module")
def gpu_reports() -> Mapping[Request, Report]:
    return reports([*KERNELS, LARGER, *AROUND, *TILE, *CHANGE, *OUTSIDE])


@pytest.fixture(scope="module")
def tpu_reports() -> Mapping[Request, Report]:
    return reports(TPU)


@pytest.fixture
def report(gpu_reports: Mapping[Request, Report]) -> Callable[[str, str, str], Report]:
    return lambda device, model, precision: gpu_reports[Request(device, model, NETWORKS[model], precision, SIDE)]


def part(model: str) -> Architecture:
    return MODELS[model].architecture.truncated([NETWORKS[model]])


def window_convolutions(nodes: Sequence[Node]) -> list[bool]:
    """For each convolution over more than one position: whether its ReLU comes before any pool."""
    found: list[bool] = []
    for node, following in zip(nodes, (*nodes, None)[1:], strict=True):
        match node:
            case InceptionBlock():
                found += [direct for branch in node.branches for direct in window_convolutions(branch)]
            case Conv() if not is_mix(node):
                found.append(not isinstance(following, MaxPool))
    return found


def test_the_compilers_are_those_of_the_jax_that_is_installed() -> None:
    pinned = dict(
        line.split("==") for line in (ROOT / "tests/accelerators/requirements.txt").read_text().splitlines() if "==" in line
    )
    constraint = re.search(r"^jax==(.+)$", (ROOT / ".constraints.txt").read_text(), re.MULTILINE)
    assert constraint is not None
    assert pinned["jax-cuda12-pjrt"] == pinned["jax-cuda12-plugin"] == constraint[1]


def test_this_process_has_no_compiler_for_accelerators() -> None:
    """Every process that starts JAX would load them, and complain of the driver that is missing."""
    assert str(DIRECTORY) not in sys.path


@pytest.mark.parametrize(("device", "model", "precision"), CASES)
def test_convolutions_add_their_bias_and_apply_their_relu(report, device: str, model: str, precision: str) -> None:
    """All whose ReLU follows at once; after a pool there are fewer values to rectify."""
    direct = window_convolutions(part(model).nodes)
    found = report(device, model, precision)
    assert found.fused_convolutions == sum(direct) > 0.9 * len(direct)
    kinds = [product.kind for product in found.products.elements()]
    assert kinds.count("__cudnn$convForward") == len(direct) - sum(direct)
    assert kinds.count("__cudnn$convBackwardInput") == len(direct)


@pytest.mark.parametrize(("device", "model", "precision"), CASES)
def test_every_product_is_of_the_precision_that_was_asked_for(report, device: str, model: str, precision: str) -> None:
    number_type, of_convolutions, of_matrices = WAYS[precision]
    products = report(device, model, precision).products
    assert {product.operands for product in products} == {(number_type, number_type)}
    for product in products:
        assert product.precision == (of_matrices if product.kind == "dot" else of_convolutions), product
    # A product that is split along its sums adds these in float32.
    assert {product.result for product in products} <= {number_type, "f32"}


@pytest.mark.parametrize(("device", "model", "precision"), CASES)
def test_nothing_is_done_that_need_not_be(report, device: str, model: str, precision: str) -> None:
    """XLA's gradient of a max pool, transposes of weights, transfers."""
    found = report(device, model, precision)
    assert (found.select_and_scatters, found.host_transfers) == (0, 0)
    if device == "a100" and precision != "bfloat16":
        # XLA has these convolutions in NCHW before compute capability 9, so weights and some activations are transposed.
        assert found.copies < 1.2 * len(window_convolutions(part(model).nodes))
    else:
        assert found.copies == 0
    assert found.kernels < 12 * len(part(model).nodes) + 6 * len(window_convolutions(part(model).nodes))


@pytest.mark.parametrize("request_", [*H200, LARGER], ids=lambda one: f"{one.model}-{one.precision}-{one.side}")
def test_a_plan_estimates_the_memory_of_a_kernel(gpu_reports, request_: Request) -> None:
    """Within 15 % of what XLA says; a new XLA that needs another amount needs a new table."""
    found = gpu_reports[request_]
    estimate = estimated_bytes(part(request_.model), (request_.side, request_.side), request_.precision)
    assert estimate == pytest.approx(found.temp_bytes + found.output_bytes, rel=0.15)


@pytest.mark.parametrize(("device", "model", "precision"), CASES)
def test_products_are_as_many_operations_as_the_network_has(report, device: str, model: str, precision: str) -> None:
    assert report(device, model, precision).flop == part(model).gradient_flops((SIDE, SIDE), (SIDE, SIDE))


@pytest.mark.parametrize(("device", "model", "precision"), MEGABYTES, ids="-".join)
def test_kernels_move_no_more_bytes_than_they_did(report, device: str, model: str, precision: str) -> None:
    """Of each kind; a change that moves fewer has new figures."""
    found = {kind: count / 1e6 for kind, count in report(device, model, precision).touched_bytes.items()}
    figures = MEGABYTES[device, model, precision]
    assert found.keys() <= figures.keys()
    for kind, count in found.items():
        assert count < 1.05 * figures[kind], kind


@pytest.mark.parametrize("request_", [*H200, LARGER], ids=lambda one: f"{one.model}-{one.precision}-{one.side}")
def test_a_plan_estimates_the_bytes_that_a_kernel_moves(gpu_reports, request_: Request) -> None:
    window = (request_.side, request_.side)
    estimate = kernel_work(part(request_.model), window, window, request_.precision)
    assert estimate.bytes == pytest.approx(gpu_reports[request_].accessed_bytes, rel=0.15)


@pytest.mark.parametrize("model", NETWORKS)
@pytest.mark.parametrize("device", GPUS)
def test_bfloat16_moves_about_half_the_bytes(report, device: str, model: str) -> None:
    ratio = report(device, model, "bfloat16").accessed_bytes / report(device, model, "float32").accessed_bytes
    assert 0.4 < ratio < 0.65


@pytest.mark.parametrize("request_", AROUND, ids=lambda request: request.program)
def test_a_resident_step_moves_nothing_between_device_and_host(gpu_reports, request_: Request) -> None:
    found = gpu_reports[request_]
    assert found.host_transfers == 0
    # A copy of the canvas or of the slots would show: these are donated and overwritten in place.
    assert found.temp_bytes < 1_000_000


@pytest.mark.parametrize("request_", TILE, ids=lambda request: request.program)
def test_filters_and_updates_stay_on_the_device_in_the_memory_that_is_planned(gpu_reports, request_: Request) -> None:
    """No transfer, no library call, and the arrays of a tile that residence counts: inputs, results and all between."""
    found = gpu_reports[request_]
    assert (found.host_transfers, found.products.total()) == (0, 0)
    grid = Axis(SIDE // 2, SIDE // 2, 32, 32, 16, "reflect")
    (block,) = deal_blocks(Grid(grid, grid), 1)
    conditioning = {"cascade": Conditioning(smoothing=3), "step": Conditioning(pull=0.1, total_variation=0.1)}
    stage = Stage(1, 1.0, conditioning=conditioning.get(request_.program, Conditioning(laplacian=4)))
    assert found.argument_bytes + found.output_bytes + found.temp_bytes <= update_bytes(block, stage)


@pytest.mark.parametrize("request_", CHANGE, ids=lambda request: request.program)
def test_an_octave_change_moves_nothing_between_device_and_host(gpu_reports, request_: Request) -> None:
    found = gpu_reports[request_]
    assert (found.host_transfers, found.copies) == (0, 0)
    # All taps are summed in one loop. Two small kernels compute a place.
    assert found.kernels == (1 if request_.program == "tile" else 3)
    # The canvas is donated and overwritten in place.
    assert found.temp_bytes < 1_000_000


def test_a_tile_of_a_new_octave_reads_the_old_canvas_once_and_writes_the_new_one_once(gpu_reports) -> None:
    """With the source's samples, at most half as much again."""
    with tracing_for("gpu"):
        rows, columns = tile_shape()
    old, _ = TILE_INPUTS
    assert gpu_reports[CHANGE[0]].accessed_bytes <= 1.5 * 12 * (math.prod(old) + rows * columns)


@pytest.mark.parametrize("request_", OUTSIDE, ids=lambda request: f"{request.program}-{request.precision}")
def test_products_outside_of_the_network_are_in_float32(gpu_reports, request_: Request) -> None:
    """Guides, directions, statistics and class scores: by default XLA would round their factors to TensorFloat-32."""
    products = gpu_reports[request_].products
    assert {product.precision for product in products} == {"highest"}
    float32 = sum(count for product, count in products.items() if set(product.operands) == {"f32"})
    if request_.precision == "float32":
        assert float32 == products.total()
    else:
        assert 0 < float32 < products.total()


def test_a_tpu_multiplies_in_the_precision_that_was_asked_for(tpu_reports: Mapping[Request, Report]) -> None:
    for request, found in tpu_reports.items():
        number_type, way, _ = WAYS[request.precision]
        assert found.products.total() == 4
        for product in found.products:
            assert (product.operands, product.result) == ((number_type, number_type), number_type)
            assert product.precision == way
        assert (found.select_and_scatters, found.host_transfers) == (0, 0)
