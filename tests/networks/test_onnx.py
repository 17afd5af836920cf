"""ONNX files: every exporter's habits read the same, every difference is named, and hostile files are refused."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from render.errors import UserError
from render.networks import onnx
from render.networks.architecture import Architecture
from render.networks.googlenet import GOOGLENET
from render.networks.inception_v3 import INCEPTION_V3, INCEPTION_V3_KERAS
from render.networks.nodes import Conv, InceptionBlock, LocalResponseNorm, MaxPool, Preprocess
from render.networks.onnx_file import read_graph
from render.networks.parameters import Parameters, check_parameters, fingerprint
from render.networks.weights import MODELS, Loaded, load
from tests.conftest import refusal
from tests.support.weight_files import OnnxStyle, OnnxWriter, inside, onnx_file, onnx_tensor, varint, whole

GOOGLENET_SHA256 = MODELS["googlenet"].published.parameters_sha256

STYLES = {
    "zoo": OnnxStyle(),
    "typed fields": OnnxStyle(store="typed"),
    "float64": OnnxStyle(dtype="<f8"),
    "float64 in its field": OnnxStyle(dtype="<f8", store="typed"),
    "numbered names, ceil mode": OnnxStyle(lambda name: f"onnx::{hash(name) % 10**12}", ceil_by_padding=False),
    "constants": OnnxStyle(constants=True, wrap=True),
    "biases added": OnnxStyle(bias_by_add=True, classifier="matmul"),
    "branches backwards": OnnxStyle(branch_order=lambda count: reversed(range(count)), classifier="gemm_transposed"),
    "response norms as quotients": OnnxStyle(quotients=True, ceil_by_padding=False),
    "convolution as classifier": OnnxStyle(classifier="conv", wrap=True),
}


@pytest.mark.parametrize("style", STYLES)
def test_onnx_of_any_exporter_reads_the_same_as_the_published_model(style: str, googlenet: Loaded, tmp_path: Path) -> None:
    path = tmp_path / "googlenet.onnx"
    path.write_bytes(onnx_file(GOOGLENET, googlenet.parameters, STYLES[style]))
    loaded = load("googlenet", path)
    assert fingerprint(loaded.parameters) == loaded.sha256 == GOOGLENET_SHA256
    assert loaded.architecture == GOOGLENET


def test_how_an_exporter_wrote_the_graph_does_not_matter_for_the_published_numbers(
    googlenet: Loaded, tmp_path: Path
) -> None:
    """Such as padding of pools that stands for rounding; of other numbers it is a difference like any other."""
    change = changed("inception_3a/pool", "MaxPool", pads=[0, 0, 2, 2])
    path = tmp_path / "quirk.onnx"
    path.write_bytes(OnnxWriter(GOOGLENET, googlenet.parameters, OnnxStyle(), change).file())
    assert load("googlenet", path).sha256 == GOOGLENET_SHA256
    other = googlenet.parameters | {"conv1/7x7_s2/bias": googlenet.parameters["conv1/7x7_s2/bias"] + 1}
    path.write_bytes(OnnxWriter(GOOGLENET, other, OnnxStyle(), change).file())
    message = refusal(lambda: load("googlenet", path))
    assert message.endswith("does not fit googlenet (1 faults): inception_3a/pool has pads (0, 0, 2, 2), not (1, 1, 1, 1)")


@pytest.mark.parametrize("store", ["raw", "typed"])
def test_half_precision_is_read_as_the_nearest_float32(store: str, tmp_path: Path) -> None:
    parameters = small_parameters()
    path = tmp_path / "half.onnx"
    path.write_bytes(onnx_file(SMALL, parameters, OnnxStyle(dtype="<f2", store=store)))
    half = read(path, SMALL)
    assert all(np.array_equal(half[name], parameters[name].astype(np.float16).astype(np.float32)) for name in parameters)


@pytest.mark.parametrize("has_norm", [True, False])
def test_inception_v3_reads_with_batch_norm_and_folded(has_norm: bool, inception: Loaded, tmp_path: Path) -> None:
    parameters: Parameters = dict(inception.parameters)
    if has_norm:
        for name, bias in inception.parameters.items():
            layer, _, kind = name.rpartition("/")
            if kind == "bias":
                del parameters[name]
                parameters |= {
                    f"{layer}/beta": bias,
                    f"{layer}/mean": 0 * bias,
                    f"{layer}/var": 0 * bias + np.float32(0.999),
                }
    path = tmp_path / "fid.onnx"
    path.write_bytes(onnx_file(INCEPTION_V3, parameters))
    loaded = load("inception_v3", path)
    assert loaded.architecture == INCEPTION_V3
    for name, array in inception.parameters.items():
        np.testing.assert_allclose(loaded.parameters[name], array, rtol=1e-6)


def test_inception_v3_whose_last_pool_averages_is_keras_variant(inception: Loaded, tmp_path: Path) -> None:
    path = tmp_path / "keras.onnx"
    path.write_bytes(onnx_file(INCEPTION_V3_KERAS, inception.parameters))
    assert load("inception_v3", path).architecture == INCEPTION_V3_KERAS


# --- differences ----------------------------------------------------------------------------------------------------------

SMALL = Architecture(
    "small",
    (
        Conv("stem", 4, (3, 3), stride=2, padding=(1, 1)),
        MaxPool("pool", 3, 2, ceil=True),
        LocalResponseNorm("norm"),
        # Branches of one shape: only the graph tells them apart.
        InceptionBlock("a", tuple((Conv(f"a/{branch}", 4, (1, 1)),) for branch in ("left", "middle", "right"))),
        InceptionBlock(
            "b", ((Conv("b/left", 6, (1, 1)),), (MaxPool("b/pool", 3, 1, padding=1), Conv("b/right", 6, (1, 1))))
        ),
    ),
    Preprocess((0.0, 0.0, 0.0), 1.0),
    classes=5,
    classifier="fc",
)


def small_parameters() -> Parameters:
    random = np.random.default_rng(0)
    return {name: random.normal(size=shape).astype(np.float32) for name, shape in SMALL.parameters().items()}


def read(path: Path, architecture: Architecture) -> Parameters:
    reading, variant = onnx.read_parameters(path, (architecture,))
    return check_parameters(reading.arrays, variant, path.name, reading.differences)


def changed(layer: str, kind: str, **attributes: object) -> Callable[[str, str, dict[str, object]], dict[str, object]]:
    return lambda here, what, usual: {**usual, **attributes} if (here, what) == (layer, kind) else usual


@pytest.mark.parametrize(
    ("layer", "kind", "attributes", "said"),
    [
        ("stem", "Conv", {"strides": [1, 1]}, "stem has strides (1, 1), not (2, 2)"),
        ("stem", "Conv", {"pads": [0, 0, 2, 2]}, "stem has pads (0, 0, 2, 2), not (1, 1, 1, 1)"),
        ("stem", "Conv", {"dilations": [2, 2]}, "stem has dilations (2, 2), not (1, 1)"),
        ("stem", "Conv", {"group": 2}, "stem has groups 2, not 1"),
        ("pool", "MaxPool", {"kernel_shape": [2, 2]}, "pool has kernel (2, 2), not (3, 3)"),
        ("b/pool", "MaxPool", {"pads": [0, 0, 2, 2]}, "b/pool has pads (0, 0, 2, 2), not (1, 1, 1, 1)"),
        ("norm", "LRN", {"alpha": 2e-4}, "norm has alpha 0.00019"),
        ("norm", "LRN", {"size": 3}, "norm has size 3, not 5"),
        ("norm", "LRN", {"bias": 2.0}, "norm has bias 2.0, not 1.0"),
        ("a", "Concat", {"axis": 2}, "a has axis 2, not 1"),
        ("fc", "Gemm", {"alpha": 0.5}, "fc has alpha 0.5, not 1.0"),
    ],
)
def test_what_the_graph_computes_otherwise_is_named(
    layer: str, kind: str, attributes: dict[str, object], said: str, tmp_path: Path
) -> None:
    path = tmp_path / "other.onnx"
    path.write_bytes(OnnxWriter(SMALL, small_parameters(), OnnxStyle(), changed(layer, kind, **attributes)).file())
    message = refusal(lambda: read(path, SMALL))
    assert message.startswith("other.onnx does not fit small (1 faults): ")
    assert said in message


def test_every_difference_is_named_in_one_error(tmp_path: Path) -> None:
    parameters = small_parameters()
    parameters["a/middle/bias"] = np.zeros(3, np.float32)
    parameters["fc/bias"][2] = np.nan
    path = tmp_path / "other.onnx"
    path.write_bytes(OnnxWriter(SMALL, parameters, OnnxStyle(), changed("norm", "LRN", beta=0.5, size=7)).file())
    message = refusal(lambda: read(path, SMALL))
    for said in (
        "(4 faults)",
        "norm has size 7, not 5",
        "norm has beta 0.5, not 0.75",
        "a/middle/bias is (3,), not (4,)",
        "fc/bias holds values that are not finite",
    ):
        assert said in message


def test_another_network_is_refused_with_what_each_has(googlenet: Loaded, tmp_path: Path) -> None:
    path = tmp_path / "googlenet.onnx"
    path.write_bytes(onnx_file(GOOGLENET, googlenet.parameters))
    message = refusal(lambda: load("inception_v3", path))
    assert "does not fit inception_v3" in message
    assert "'Conv' stands where mixed10/branch3x3_2 has Concat" in message
    assert "missing mixed0/branch1x1/weight (64, 192, 1, 1)" in message
    assert "extra conv1/7x7_s2_w_0 (64, 3, 7, 7)" in message


def test_quantised_weights_and_those_in_other_files_are_refused(tmp_path: Path) -> None:
    writer = OnnxWriter(SMALL, small_parameters())
    quantised = writer.file().replace(b"Conv", b"QCon")
    (tmp_path / "int8.onnx").write_bytes(quantised)
    assert "'QCon' stands where b/left has Conv" in refusal(lambda: read(tmp_path / "int8.onnx", SMALL))
    # The same file with one tensor's values elsewhere: location 1, a length of 4 bytes more inside three messages.
    writer = OnnxWriter(SMALL, small_parameters())
    writer.file()
    stem = next(number for number, tensor in enumerate(writer.initializers) if b"stem_w_0" in tensor)
    writer.initializers[stem] = whole(2, 1) + b"".join(whole(1, size) for size in (4, 3, 3, 3)) + inside(8, "stem_w_0")
    writer.initializers[stem] += inside(13, inside(1, "location") + inside(2, "/etc/passwd")) + whole(14, 1)
    graph = b"".join(inside(1, node) for node in writer.nodes) + b"".join(inside(5, item) for item in writer.initializers)
    last = f"v{writer.count}"
    (tmp_path / "external.onnx").write_bytes(inside(7, graph + inside(12, inside(1, last))))
    message = refusal(lambda: read(tmp_path / "external.onnx", SMALL))
    assert message == "external.onnx keeps its values in another file, which is not read: save the model as one file"


# --- hostile files --------------------------------------------------------------------------------------------------------


def refused_or_read(content: bytes, path: Path) -> Parameters | None:
    """The parameters that were read; None after an error for users, in one line. Anything else fails."""
    path.write_bytes(content)
    try:
        return read(path, SMALL)
    except (UserError, ValueError) as error:
        assert len(str(error).splitlines()) == 1
        return None


def test_every_cut_of_a_small_file_is_refused_or_leaves_all_parameters(tmp_path: Path) -> None:
    content, parameters = onnx_file(SMALL, small_parameters()), small_parameters()
    for length in range(0, len(content), 5):
        found = refused_or_read(content[:length], tmp_path / "cut.onnx")
        assert found is None or all(np.array_equal(found[name], parameters[name]) for name in found)


@settings(max_examples=300)
@given(changes=st.lists(st.tuples(st.integers(0, 10_000), st.integers(0, 255)), min_size=1, max_size=8))
def test_whatever_bytes_are_changed_a_file_is_refused_or_read(
    changes: list[tuple[int, int]], tmp_path_factory: pytest.TempPathFactory
) -> None:
    content = bytearray(onnx_file(SMALL, small_parameters()))
    for place, byte in changes:
        content[place % len(content)] = byte
    refused_or_read(bytes(content), tmp_path_factory.getbasetemp() / "changed.onnx")


def graph_of(*nodes: tuple[str, list[str], str], output: str = "end") -> bytes:
    operations = b"".join(
        inside(1, b"".join(inside(1, name) for name in inputs) + inside(2, made) + inside(4, kind))
        for kind, inputs, made in nodes
    )
    return inside(7, operations + inside(12, inside(1, output)))


def deep_attribute(depth: int) -> bytes:
    content = b""
    for _ in range(depth):
        content = inside(1, inside(5, inside(1, "then_branch") + inside(6, content)))
    return inside(7, content)


def hostile() -> Iterator[tuple[str, bytes, str]]:
    """Name, content and what is said of it."""
    yield "empty", b"", "it holds no graph"
    yield "text", b"weights " * 100, "not an ONNX model"
    yield "endless length", varint(7 << 3 | 2) + varint(1 << 62), "goes past the end"
    yield "two graphs", inside(7, b"") * 2, "it holds 2 graphs"
    yield "endless fields", inside(7, whole(3, 1) * 600_000), "more than 500,000 fields"
    yield "many nodes", inside(7, inside(1, inside(2, "")) * 20_000), "more than 10,000 parts"
    yield "no output", inside(7, b""), "the graph has no output"
    yield "circle of two", graph_of(("Relu", ["a"], "end"), ("Relu", ["end"], "a")), "the graph runs in a circle"
    yield "circle of one", graph_of(("Identity", ["end"], "end")), "the graph runs in a circle"
    yield "made twice", graph_of(("Relu", ["a"], "end"), ("Relu", ["b"], "end")), "it makes 'end' twice"
    yield "deep graphs", deep_attribute(300), "the graph has no output"
    huge = whole(1, 1 << 40) + whole(1, 1 << 40) + whole(2, 1) + inside(8, "w") + inside(9, b"1234")
    yield "huge shape", inside(7, inside(5, huge)), "the graph has no output"
    minus = whole(1, -1) + whole(2, 1) + inside(8, "w")
    yield "negative shape", inside(7, inside(5, minus)), "'w' has the shape (-1,)"
    tensor = onnx_tensor("w", np.zeros(2, np.float32))
    yield "tensor twice", inside(7, inside(5, tensor) * 2), "it holds 'w' twice"


HOSTILE = {name: (content, said) for name, content, said in hostile()}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_file_is_refused_in_one_line(name: str, tmp_path: Path) -> None:
    content, said = HOSTILE[name]
    path = tmp_path / "hostile.onnx"
    path.write_bytes(content)
    assert said in refusal(lambda: read(path, SMALL))


def test_a_shape_of_more_values_than_there_are_is_refused(tmp_path: Path) -> None:
    writer = OnnxWriter(SMALL, small_parameters())
    content = writer.file()
    tensor = next(item for item in writer.initializers if b"stem_b_0" in item)
    path = tmp_path / "forged.onnx"
    path.write_bytes(content.replace(tensor, tensor.replace(whole(1, 4), whole(1, 5), 1)))
    with pytest.raises(ValueError, match="holds 4 values"):
        read(path, SMALL)


def test_thousands_of_outputs_take_no_longer_than_a_few(tmp_path: Path) -> None:
    content = inside(7, b"".join(inside(12, inside(1, f"o{number}")) for number in range(9_000)))
    path = tmp_path / "outputs.onnx"
    path.write_bytes(content)
    assert len(read_graph(path).outputs) == 9_000
    assert "the graph ends before the output" in refusal(lambda: read(path, SMALL))
