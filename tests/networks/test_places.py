"""GoogLeNet with another classifier: files like those of Places365 load, dream by tiles, and name their classes."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from render.atlas.subjects import subjects_of
from render.commands.probe import probe_command
from render.config.compose import load as load_atlas
from render.config.compose import load_config
from render.config.root_kinds import ATLAS
from render.dreaming.objectives import resolve
from render.job.job import draft, prepared, render
from render.networks.googlenet import GOOGLENET
from render.networks.parameters import Parameters
from render.networks.weight_files import variant_of
from render.networks.weights import Loaded, load
from tests.conftest import INLINE, refusal
from tests.support.caffe_files import legacy_caffemodel, modern_caffemodel
from tests.support.farm_job import stored
from tests.support.untiled import assert_equal, kernel_of, make_grid, photo, tiled_gradient, untiled_gradient
from tests.support.weight_files import onnx_file

CLASSES = 365


@pytest.fixture(scope="module")
def places(googlenet: Loaded) -> Parameters:
    """GoogLeNet's parameters with a classifier of 365 classes, which are some of ImageNet's in another order."""
    chosen = np.random.default_rng(365).permutation(1000)[:CLASSES]
    parameters = dict(googlenet.parameters)
    for kind in ("weight", "bias"):
        parameters[f"loss3/classifier/{kind}"] = np.ascontiguousarray(parameters[f"loss3/classifier/{kind}"][chosen])
    return parameters


@pytest.fixture(scope="module")
def caffemodel(places: Parameters, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("places") / "googlenet_places365.caffemodel"
    path.write_bytes(legacy_caffemodel(places))
    return path


@pytest.fixture(scope="module")
def labels(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Names as Places365 publishes them."""
    path = tmp_path_factory.mktemp("labels") / "categories_places365.txt"
    lines = [f"/{'ab'[index % 2]}/place_{index}/{'indoor' if index % 3 else 'outdoor'} {index}" for index in range(CLASSES)]
    path.write_text("\n".join(lines) + "\n")
    return path


def write_npz(path: Path, parameters: Parameters) -> None:
    np.savez(path, **parameters)


FORMATS: dict[str, Callable[[Path, Parameters], object]] = {
    "legacy.caffemodel": lambda path, parameters: path.write_bytes(legacy_caffemodel(parameters)),
    "modern.caffemodel": lambda path, parameters: path.write_bytes(modern_caffemodel(parameters)),
    "weights.onnx": lambda path, parameters: path.write_bytes(onnx_file(GOOGLENET, parameters)),
    "weights.npz": write_npz,
    "weights.safetensors": lambda path, parameters: save_file(parameters, path),
}


@pytest.mark.parametrize("name", FORMATS)
def test_every_format_may_hold_another_classifier(name: str, places: Parameters, tmp_path: Path) -> None:
    path = tmp_path / name
    FORMATS[name](path, places)
    loaded = load("googlenet", path)
    assert loaded.architecture.classes == CLASSES == variant_of(path, GOOGLENET).classes
    assert all(np.array_equal(loaded.parameters[key], array) for key, array in places.items())


def test_a_classifier_under_another_name_is_found(places: Parameters, tmp_path: Path) -> None:
    renamed = {name.replace("loss3/classifier/", "loss3/classifier_places/"): array for name, array in places.items()}
    (tmp_path / "renamed.caffemodel").write_bytes(modern_caffemodel(renamed))
    loaded = load("googlenet", tmp_path / "renamed.caffemodel")
    assert loaded.architecture.classes == CLASSES
    assert np.array_equal(loaded.parameters["loss3/classifier/bias"], places["loss3/classifier/bias"])


@pytest.mark.parametrize(
    ("weight", "bias", "said"),
    [
        ((365, 1000), (365,), "loss3/classifier/weight is (365, 1000), not (1000, 1024)"),
        ((365, 1024), (364,), "loss3/classifier/bias is (364,), not (365,)"),
        ((0, 1024), (0,), "loss3/classifier/weight is (0, 1024), not (1000, 1024)"),
        ((60_000, 1024), (60_000,), "loss3/classifier/weight is (60000, 1024), not (1000, 1024)"),
    ],
)
def test_a_classifier_that_does_not_fit_the_network_is_refused(
    weight: tuple[int, ...], bias: tuple[int, ...], said: str, places: Parameters, tmp_path: Path
) -> None:
    other = places | {
        "loss3/classifier/weight": np.zeros(weight, np.float32),
        "loss3/classifier/bias": np.zeros(bias, np.float32),
    }
    np.savez_compressed(tmp_path / "other.npz", **other)
    assert said in refusal(lambda: load("googlenet", tmp_path / "other.npz"))


@pytest.mark.slow
def test_its_class_is_dreamed_of_by_tiles(caffemodel: Path) -> None:
    """Its view is 715 px wide: one long canvas, whose windows are true parts of it."""
    loaded = load("googlenet", caffemodel)
    objective = resolve([{"class": CLASSES - 1}], loaded.architecture)
    canvas = photo(64, 1900)
    grid = make_grid(loaded, objective, canvas.shape[:2], 96, "reflect")
    assert grid.window_shape[1] < grid.extended_shape[1]
    untiled = untiled_gradient(loaded, objective, grid, canvas, (3, 17))
    assert_equal(tiled_gradient(kernel_of(loaded, objective), loaded, grid, canvas, (3, 17)), untiled, "class of Places")
    assert "googlenet has classes 0 to 364, not 365" in refusal(lambda: resolve([{"class": CLASSES}], loaded.architecture))


# --- as a user ------------------------------------------------------------------------------------------------------------

SMALL = (
    "image=sample:chelsea", "output.width=96", "octaves.count=1", "octaves.steps=1", "model=googlenet", "quiet=true",
    INLINE,
)  # fmt: skip


def dreamed(directory: Path, *words: str) -> np.ndarray:
    with prepared(draft(load_config("preview", [*SMALL, *words, f"output.dir={directory}"]))) as job:
        render(job)
    return stored(directory)


def test_its_classes_are_dreamed_by_name_and_index_alike(caffemodel: Path, labels: Path, tmp_path: Path) -> None:
    weights = f"model.weights={caffemodel}"
    by_name = dreamed(tmp_path / "a", weights, f"model.labels={labels}", "objective.terms=['class:place 7 indoor']")
    by_index = dreamed(tmp_path / "b", weights, "objective.terms=[class:7]")
    np.testing.assert_array_equal(by_name, by_index)
    record = json.loads((tmp_path / "a" / "run.json").read_text())
    assert record["objective"] == "class:7"
    assert record["config"]["model"]["labels"] == str(labels)
    assert record["weights_sha256"] == load("googlenet", caffemodel).sha256


def test_its_class_is_the_same_from_any_number_of_workers(caffemodel: Path, tmp_path: Path) -> None:
    words = (f"model.weights={caffemodel}", "objective.terms=[class:7]", "tiles.size=32", "octaves.steps=2")
    alone = dreamed(tmp_path / "one", *words)
    np.testing.assert_array_equal(alone, dreamed(tmp_path / "four", *words, "farm.workers=4"))


def test_names_are_needed_for_classes_by_name_alone(command, caffemodel: Path, labels: Path, tmp_path: Path) -> None:
    words = (*SMALL, f"model.weights={caffemodel}")
    command(*words, "objective.terms=[class:abbey]").refused("365 classes", "are not ImageNet's", "give model.labels=FILE")
    command(*words, "objective.terms=[class:365]").refused("googlenet has no class 365: its classes are 0 to 364")
    named = (*words, f"model.labels={labels}")
    command(*named, "objective.terms=['class:place 7 outdoor']").refused("has no class 'place 7 outdoor': did you mean")
    (tmp_path / "few.txt").write_text("abbey\nalley\n")
    command(*words, "model.labels=few.txt").refused("has 2 names, and googlenet tells 365 classes apart")
    command("image=sample:chelsea", "model.labels=few.txt").refused("inception_v3 has no classes")
    listed = command("classes", f"model.weights={caffemodel}", f"model.labels={labels}", "words=_36")
    assert listed.out.splitlines() == [
        f"{index:4d}  place_{index}/{'indoor' if index % 3 else 'outdoor'}" for index in (36, *range(360, 365))
    ]


def test_a_probe_names_what_it_sees_from_the_file(command, caffemodel: Path, labels: Path) -> None:
    small = (
        "output.width=64", "output.height=64", "octaves.count=1", "octaves.steps=1", "conditioning.laplacian=0",
        "objective.terms=[conv1/7x7_s2]", "output.dir=run", INLINE, "model=googlenet", f"model.weights={caffemodel}",
    )  # fmt: skip
    finished = command("probe", "class=place 7", *small, f"model.labels={labels}")
    assert finished.code == 0, finished.err
    assert "place_7/indoor (7): before" in finished.out
    unnamed = command("probe", "class=7", *small, "fresh=true")
    assert "class 7 (7): before" in unnamed.out, unnamed.err


def test_an_atlas_and_a_probe_by_maco_have_the_classes_of_the_file(caffemodel: Path, labels: Path) -> None:
    words = ["model=googlenet", f"model.weights={caffemodel}", f"model.labels={labels}"]
    subjects = subjects_of(load_atlas(ATLAS, "atlas", [*words, "classes=[place 7, 364]"]))
    assert (subjects.chosen, subjects.total) == ((7, 364), CLASSES)
    assert [subjects.describe(index) for index in subjects.chosen] == ["place_7/indoor (7)", "place_364/indoor (364)"]
    assert subjects_of(load_atlas(ATLAS, "atlas", [*words, "layer=loss3/classifier"])).chosen == tuple(range(CLASSES))
    said = "give one of the classes of categories_places365.txt"
    assert said in refusal(lambda: subjects_of(load_atlas(ATLAS, "atlas", [*words, "classes=[goldfish]"])))
    assert said in refusal(lambda: probe_command("atlas", [*words, "class=goldfish"]))
