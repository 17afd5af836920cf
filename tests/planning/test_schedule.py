"""From a config to stages: lists by octave, regions, presets for several models, and what is refused before any work."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from render.config.compose import load_config
from render.dreaming.optimizer import Optimizer
from render.dreaming.stage import Conditioning, Region
from render.dreaming.term_syntax import NoMaterials, Picture
from render.dreaming.terms import Energy
from render.errors import UserError
from render.job.materials import Library
from render.job.resolve import schedule_of
from render.networks.googlenet import GOOGLENET
from render.networks.inception_v3 import INCEPTION_V3
from render.networks.weights import MODELS
from render.planning.schedule import Schedule
from tests.conftest import TINY


def schedule(*words: str, architecture=INCEPTION_V3, materials=None) -> Schedule:
    return schedule_of(load_config("preview", list(words)), architecture, ["mixed4"], materials)


def test_a_config_that_says_nothing_dreams_as_ever() -> None:
    resolved = schedule()
    assert len(resolved.objectives) == 1
    assert resolved.masks == ()
    # The number of octaves is left to the picture's size, and one stage stands for all.
    (stage,) = resolved.stages
    assert (stage.steps, stage.step_size, stage.jitter) == (10, 1.5, None)
    assert stage.regions == (Region(0),)
    assert stage.conditioning == Conditioning()
    assert stage.optimizer == Optimizer()
    assert stage.plain


def test_lists_have_one_entry_for_each_octave() -> None:
    resolved = schedule(
        "octaves.count=3",
        "octaves.steps=[20,10,5]",
        "step_size=[2,1.5,1]",
        "jitter=[null,8,0]",
        "objective.terms=[[mixed2],[mixed3,mixed4],[mixed2]]",
        "conditioning.laplacian=[4,3,0]",
        "conditioning.smoothing=[0,0,0.5]",
        "conditioning.luminance_only=[true,false,false]",
        "conditioning.decorrelate=[0,1,0.5]",
        "conditioning.shoulder=[0,16,32]",
    )
    assert [stage.steps for stage in resolved.stages] == [20, 10, 5]
    assert [stage.step_size for stage in resolved.stages] == [2.0, 1.5, 1.0]
    assert [stage.jitter for stage in resolved.stages] == [None, 8, 0]
    assert [stage.conditioning.laplacian for stage in resolved.stages] == [4, 3, 0]
    assert [stage.conditioning.luminance_only for stage in resolved.stages] == [True, False, False]
    assert [stage.conditioning.decorrelate for stage in resolved.stages] == [0, 1, 0.5]
    assert [stage.conditioning.shoulder for stage in resolved.stages] == [0, 16, 32]
    # What is the same is one objective, so that it is compiled once.
    assert [str(objective) for objective in resolved.objectives] == ["mixed2", "mixed3 + mixed4"]
    assert [stage.regions[0].objective for stage in resolved.stages] == [0, 1, 0]


def test_regions_and_what_is_left_over() -> None:
    regions = "objective.regions=[{mask: a.png, terms: [mixed1]}, {mask: {image: b.png, invert: true}, terms: [mixed2]}]"
    resolved = schedule("objective.mask=all.png", regions, "objective.terms=[mixed3]")
    assert [key for key, _ in resolved.masks] == [
        "objective.mask",
        "objective.regions[0].mask",
        "objective.regions[1].mask",
    ]
    assert resolved.masks[2][1] == {"image": "b.png", "invert": True}
    assert resolved.stages[0].regions == (Region(0, (0, 1)), Region(1, (0, 2)), Region(2, (0,), (1, 2)))
    # Without terms of its own, nothing is dreamed elsewhere.
    assert schedule(regions).stages[0].regions == (Region(0, (0,)), Region(1, (1,)))
    assert not schedule(regions).stages[0].plain


def test_a_preset_has_terms_for_several_models() -> None:
    words = "objective.by_model={inception_v3: [mixed3], googlenet: [inception_4c]}"
    assert str(schedule(words)) == "mixed3"
    assert str(schedule(words, architecture=GOOGLENET)) == "inception_4c"
    # Terms of one's own come first.
    assert str(schedule(words, "objective.terms=[mixed5]")) == "mixed5"
    assert str(schedule("objective=eyes", "objective.terms=[mixed5]")) == "mixed5"
    with pytest.raises(UserError, match="has terms for googlenet, not for inception_v3: add model=googlenet"):
        schedule("objective.by_model={googlenet: [inception_4c]}")


def test_a_regular_expression_names_layers_in_their_order() -> None:
    resolved = schedule("objective.terms=['0.5*/mixed[357]/']")
    assert [term.layer for term in resolved.objectives[0].terms] == ["mixed3", "mixed5", "mixed7"]
    assert {term.weight for term in resolved.objectives[0].terms} == {0.5}
    resolved = schedule("objective.terms=['/mixed4|mixed2/:3+5-7']")
    assert resolved.objectives[0].terms == (Energy("mixed2", (3, 5, 6, 7)), Energy("mixed4", (3, 5, 6, 7)))


class Guides(NoMaterials):
    def picture(self, path: str) -> Picture:
        return Picture(np.zeros((20, 30, 3), np.float32), "sha of " + path)

    texture = picture


def test_what_a_guide_shows_is_part_of_what_is_dreamed() -> None:
    resolved = schedule("objective.terms=[{layer: conv2d_1a_3x3, guide: a.png}]", materials=Guides())
    assert resolved.content == "sha of a.png"
    term = "{layers: [conv2d_1a_3x3, conv2d_2a_3x3], texture: b.png}"
    assert schedule(f"objective.terms=[{term}]", materials=Guides()).content == "sha of b.png sha of b.png"
    assert schedule().content is None


def test_where_files_lie_is_no_part_of_what_is_dreamed(tmp_path: Path) -> None:
    """A run goes on when its guide was moved, and a published picture does not say where it was."""
    np.save(tmp_path / "a.npy", np.arange(256.0))

    class Vectors(Guides):
        def picture(self, path: str) -> Picture:
            return Picture(np.zeros((64, 64, 3), np.float32), "sha")

        def vector(self, path: str) -> tuple[float, ...]:
            return tuple(np.load(tmp_path / "a.npy"))

    def written(directory: str) -> str:
        guide, direction = (f"{directory}/{name}" for name in ("a.png", "a.npy"))
        terms = f"[{{layer: mixed0, guide: {guide}}}, {{layer: mixed0, direction: {direction}}}]"
        return str(schedule(f"objective.terms={terms}", materials=Vectors()))

    assert written("/home/me/secret") == written("/srv")
    assert "secret" not in written("/home/me/secret")
    assert "a.png" in written("/srv")
    assert "a.npy" in written("/srv")


REFUSED = [
    (["octaves.count=5", "octaves.steps=[10,5]"], ["octaves.steps", "2 octaves", "there are 5"]),
    (["octaves.count=2", "step_size=[1,2,3]"], ["step_size", "3 octaves"]),
    (["octaves.count=2", "objective.terms=[[mixed2],[mixed3],[mixed4]]"], ["objective.terms", "3 octaves"]),
    (["octaves.count=2", "conditioning.laplacian=[4]"], ["conditioning.laplacian", "1 octaves"]),
    (["octaves.steps=-1"], ["octaves.steps=-1", "whole number from 0"]),
    (["octaves.steps=1e3"], ["octaves.steps=1000.0", "whole number"]),
    (["octaves.steps=99999999999"], ["octaves.steps=99999999999", "to 1,000,000"]),
    (["octaves.steps=[3,3,3,3,2.5]"], ["octaves.steps=2.5"]),
    (["step_size=0"], ["step_size=0", "above 0"]),
    (["step_size=[1,1,1,1,nan]"], ["step_size=nan"]),
    (["jitter=-1"], ["jitter=-1"]),
    (["jitter=5000"], ["jitter=5000", "to 4096 px"]),
    (["jitter=ten"], ["jitter=ten"]),
    (["conditioning.normalize=max"], ["conditioning.normalize=max", "mean_abs or std"]),
    (["conditioning.laplacian=20"], ["conditioning.laplacian=20", "9"]),
    (["conditioning.laplacian=3", "conditioning.smoothing=1"], ["laplacian=3", "smoothing=1", "one of them"]),
    (["conditioning.pull=2"], ["conditioning.pull=2"]),
    (["conditioning.total_variation=-1"], ["conditioning.total_variation=-1"]),
    (["conditioning.luminance_only=1"], ["conditioning.luminance_only=1", "true or false"]),
    (["conditioning.decorrelate=half"], ["conditioning.decorrelate=half", "from 0 (off) to 1"]),
    (["conditioning.decorrelate=1.5"], ["conditioning.decorrelate=1.5", "from 0 (off) to 1"]),
    (["octaves.count=5", "conditioning.decorrelate=[1,0]"], ["conditioning.decorrelate", "2 octaves"]),
    (
        [
            "conditioning.decorrelate=[1,1,1,0.5,0]",
            "conditioning.luminance_only=[false,false,false,true,true]",
        ],
        ["luminance_only=true", "conditioning.decorrelate", "one of them"],
    ),
    (["conditioning.shoulder=128"], ["conditioning.shoulder=128", "to 127 levels"]),
    (["conditioning.shoulder=[0,0,0,0,nan]"], ["conditioning.shoulder=nan"]),
    (["optimizer.name=adm"], ["optimizer.name", "adam"]),
    (["optimizer.momentum=1"], ["optimizer.momentum"]),
    (["objective.terms=mixed4"], ["objective.terms", "list"]),
    (["objective.terms=[]"], ["objective.terms is empty"]),
    (["objective.terms=[0*mixed4]"], ["weight", "other than 0"]),
    (["objective.terms=['/mixd.*/']"], ["/mixd.*/", "matches no layer"]),
    (["objective.terms=['/mixed[/']"], ["regular expression"]),
    (["objective.terms=['mixed4:9-3']"], ["9-3", "smaller number first"]),
    (["objective.terms=[{layer: mixed4, strongest: 0}]"], ["strongest", "at least 1"]),
    (["objective.terms=[{layer: mixed4, strongest: 5000}]"], ["mixed4", "768 channels", "5000"]),
    (["objective.terms=[{layer: mixed4, channels: 1, at: [2,0]}]"], ["at", "[2, 0]"]),
    (["objective.terms=[{layer: mixed4, at: [0.5,0.5]}]"], ["one channel"]),
    (["objective.terms=[{layer: mixed4, direction: [1,2]}]"], ["2 numbers", "768"]),
    (["objective.terms=[{layer: mixed4, direction: [0,0]}]"], ["not all 0"]),
    (["objective.terms=[{layer: mixed4, strongest: 3, guide: a.png}]"], ["both", "strongest", "guide"]),
    (["objective.terms=[{layer: mixed4, strongest: 3, channels: 4}]"], ["'channels' does not go with 'strongest'"]),
    (["objective.terms=[{layer: mixed4, measure: max}]"], ["measure", "square, mean, l1"]),
    (["objective.terms=[{class: dog, layer: mixed4}]"], ["no `layer`"]),
    (["objective.terms=[{class: 5}]"], ["inception_v3 has no classifier", "googlenet"]),
    (["objective.terms=[{layer: mixed4, caricature: false}]"], ["caricature", "must be true"]),
    (["objective.terms=['class:²']"], ["class '²'"]),
    (["objective.terms=[{class: '²'}]"], ["class '²'"]),
    (["objective.regions=null"], ["objective.regions=null", "must be a list"]),
    (["objective.regions={mask: a.png, terms: [mixed4]}"], ["objective.regions", "list in brackets"]),
    (["objective.regions=[{mask: a.png}]"], ["objective.regions[0]", "mask and terms"]),
    (["objective.regions=[{mask: a.png, terms: mixed4}]"], ["objective.regions[0].terms", "list"]),
]


@pytest.mark.parametrize(("words", "said"), REFUSED, ids=lambda value: " ".join(value)[:60])
def test_what_means_nothing_is_refused_in_one_line(words: list[str], said: list[str]) -> None:
    with pytest.raises(UserError) as caught:
        schedule(*words)
    message = str(caught.value)
    assert len(message.splitlines()) == 1
    for word in said:
        assert word in message


def test_a_guide_too_small_for_the_layer_is_refused() -> None:
    with pytest.raises(UserError, match=r"guide a\.png is 30 x 20 px and mixed4 of inception_v3 needs \d+ px"):
        schedule("objective.terms=[{layer: mixed4, guide: a.png}]", materials=Guides())


def test_every_preset_suits_the_models_it_names() -> None:
    from render.system.paths import shipped_configs

    presets = sorted(path.stem for path in (shipped_configs() / "objective").glob("*.yaml"))
    for preset in presets:
        config = load_config("preview", [f"objective={preset}"])
        for name in config.objective.by_model or MODELS:
            materials = Library(name, config.source)
            assert schedule_of(config, MODELS[name].architecture, MODELS[name].default_terms, materials).objectives


# As a user meets them


def test_the_command_refuses_in_one_line_and_touches_nothing(command, tmp_path: Path) -> None:
    Image.new("L", (40, 30)).save(tmp_path / "black.png")
    Image.new("RGB", (12, 12), "red").save(tmp_path / "tiny.png")
    np.save(tmp_path / "short.npy", np.ones(3))
    (tmp_path / "text.npy").write_text("no numbers")
    (tmp_path / "directory.npy").mkdir()
    with (tmp_path / "endless.npy").open("wb") as file:
        np.lib.format.write_array_header_1_0(file, {"descr": "<f8", "fortran_order": False, "shape": (10**14,)})
    terms = "objective.terms=[{layer: mixed0, %s}]"
    for words, said in (
        (["objective.mask=black.png"], ["objective.mask", "black.png", "matches nothing"]),
        (["objective.mask=none.png"], ["objective.mask", "none.png", "does not exist"]),
        (["objective.regions=[{mask: {image: black.png, invrt: true}, terms: [mixed0]}]"], ["regions[0].mask", "invert"]),
        ([terms % "guide: tiny.png"], ["guide tiny.png is 12 x 12 px", "mixed0"]),
        ([terms % "guide: none.png"], ["objective guide", "none.png"]),
        ([terms % "texture: tiny.png"], ["texture tiny.png is 12 x 12 px", "mixed0", "63 px a side"]),
        ([terms % "texture: none.png"], ["objective texture", "none.png", "does not exist"]),
        ([terms % "texture: text.npy"], ["objective texture", "text.npy", "JPEG"]),
        ([terms % "texture: directory.npy"], ["objective texture", "is a directory"]),
        ([terms % "texture: tiny.png, scale: -1"], ["objective scale: -1", "from 0.01 to 100"]),
        ([terms % "texture: tiny.png, scal: 2"], ["unknown key 'scal'", "did you mean 'scale'"]),
        ([terms % "direction: short.npy"], ["3 numbers", "256"]),
        ([terms % "direction: text.npy"], ["text.npy", "is no .npy file", "numpy.save"]),
        ([terms % "direction: directory.npy"], ["directory.npy", "cannot be read", "directory"]),
        ([terms % "direction: endless.npy"], ["endless.npy", "is no .npy file"]),
        (["conditioning.laplacian=6"], ["conditioning.laplacian=6", "252 px", "96 x 64"]),
        (["objective.terms=[class:dumbbell]"], ["inception_v3", "no classifier"]),
        (["model=googlenet", "objective.terms=[class:dumbell]"], ["dumbell", "dumbbell"]),
        (["model=googlenet", "objective.terms=[class:crane]"], ["crane", "134", "517"]),
    ):
        command(*TINY[:4], "farm.executor=inline", "objective.terms=[mixed0]", *words, "output.dir=run").refused(*said)
        assert not (tmp_path / "run").exists()


def test_all_there_is_can_be_listed(command) -> None:
    listed = command("objectives")
    assert listed.code == 0, listed.err
    for word in ("energy", "neuron", "strongest", "direction", "class", "guide", "caricature", "texture", "auto"):
        assert word in listed.out
    classes = command("classes", "model=googlenet", "words=dumbbell")
    assert (classes.code, classes.out) == (0, " 543  dumbbell\n")
    command("classes", "model=inception_v3").refused("no classifier")
    command("classes", "model=googlenet", "words=zzz").refused("zzz")
    command("classes", "word=dog").refused("'word'")


def test_a_list_may_be_read_in_part() -> None:
    """`make classes | head` ends as it should."""
    command = [sys.executable, "-m", "render", "classes"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as listing:
        assert listing.stdout is not None
        assert listing.stderr is not None
        assert b"tench" in listing.stdout.readline()
        listing.stdout.close()
        assert listing.stderr.read() == b""
    assert listing.returncode == 0
