"""Breeding: the same points from the same seed, all of them jobs, and sweeps that go on with what they began with."""

from __future__ import annotations

import json
import math
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from render.__main__ import main
from render.api.grid import sweep
from render.config.compose import is_sweep, load_config
from render.dreaming.term_syntax import parse_term
from render.networks.weights import MODELS
from render.sweeps.axes.definition import SweepDefinition
from render.sweeps.axes.points import expand
from render.sweeps.breeding.draws import Draws
from render.sweeps.breeding.generation import define_sweep
from render.sweeps.breeding.genes import GeneSource, NumberGene
from render.sweeps.breeding.ranges import ValueCheck
from render.sweeps.breeding.term_genes import changed_terms, crossed_terms
from render.sweeps.gallery.favourite_facts import axis_ranges, shared_words
from render.sweeps.rendering import point_progress
from render.sweeps.rendering.drafting import DraftedPoint, draft_points
from render.sweeps.rendering.point_progress import PointProgress
from tests.conftest import ROOT, Finished, refusal

TINY = ("output.width=96", "octaves.count=1", "octaves.steps=1", "farm.executor=inline")
TINY_SETTINGS = {"output.width": 96, "octaves.count": 1, "octaves.steps": 1, "farm.executor": "inline"}
BREED = ("conf=breed", "from=favourites.yaml", "sweep.breed.size=3")
FAVOURITES = (
    {"objective.terms": "[mixed0]", "step_size": "2"},
    {"objective.terms": "[mixed1,0.5*mixed0:3+7]", "step_size": "1.5", "octaves.scale": "1.3"},
    {"objective": "ornament", "step_size": "4", "conditioning.luminance_only": "true"},
)
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT), "RENDER_OVERRIDES": ""}


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every test has a working directory of its own, with a file of favourites."""
    monkeypatch.chdir(tmp_path)
    write(*FAVOURITES)


def write(*points: object, name: str = "favourites.yaml", **facts: object) -> None:
    """Write a file of favourites: a list, or with facts as a gallery exports it."""
    content = {**facts, "points": list(points)} if facts else list(points)
    Path(name).write_text(yaml.safe_dump(content, sort_keys=False), encoding="utf-8")


def bred(*words: str, root: str = "breed", source: str = "favourites.yaml") -> SweepDefinition:
    """Return the sweep that is bred from a file."""
    return define_sweep(root, [f"from={source}", *TINY, "sweep.breed.size=6", *words])


def points_of(definition: SweepDefinition) -> list[tuple[str, ...]]:
    """Return the words of each point, without those of other axes."""
    return [value.words for value in definition.axes[0].values]


def refused(*words: str) -> str:
    """Return why a sweep is refused, which must be one line."""
    message = refusal(lambda: bred(*words))
    assert "\n" not in message
    return message


# Children


def test_the_same_seed_gives_the_same_points_and_another_one_others() -> None:
    first = points_of(bred())
    assert points_of(bred()) == first
    other = points_of(bred("sweep.breed.seed=1"))
    assert other[:3] == first[:3]  # the favourites
    assert set(other[3:]).isdisjoint(first[3:])


def test_more_children_leave_the_first_ones_as_they_are() -> None:
    few = points_of(bred("sweep.breed.size=3"))
    assert points_of(bred("sweep.breed.size=7"))[: len(few)] == few


def test_every_child_is_a_job_of_its_own_and_favourites_are_kept_on_request() -> None:
    definition = bred("sweep.breed.size=12")
    drafted = list(draft_points(definition, expand(definition), None))
    assert all(isinstance(point, DraftedPoint) for point in drafted)
    assert len({point.job_digest for point in drafted if isinstance(point, DraftedPoint)}) == 15
    lineage = definition.lineage
    assert lineage is not None
    assert lineage.generation == 1
    assert lineage.origins[:3] == ((0,), (1,), (2,))
    assert all(1 <= len(parents) <= 2 for parents in lineage.origins[3:])
    kept = points_of(definition)[:3]
    assert kept == [tuple(f"{key}={text}" for key, text in point.items()) for point in FAVOURITES]
    assert len(points_of(bred("sweep.breed.keep=false"))) == 6


def test_a_child_without_mutation_has_only_values_of_its_parents() -> None:
    definition = bred("sweep.breed.mutation=0", "sweep.breed.crossover=1", "sweep.breed.keep=false")
    assert definition.lineage is not None
    for words, parents in zip(points_of(definition), definition.lineage.origins, strict=True):
        assert len(parents) == 2
        keys = {key for parent in parents for key in FAVOURITES[parent]}
        assert {word.partition("=")[0] for word in words} <= keys


def test_one_favourite_is_enough() -> None:
    write({"step_size": "2", "seed": "1"})
    definition = bred()
    assert definition.lineage is not None
    assert definition.lineage.origins == ((0,),) * 7
    assert len(set(points_of(definition))) == 7


def test_words_take_precedence_and_further_axes_multiply() -> None:
    definition = bred("step_size=3", "image=sample:chelsea,sample:hubble", "sweep.breed.size=2")
    assert [axis.key for axis in definition.axes] == ["point", "image"]
    assert all("step_size" not in word for words in points_of(definition) for word in words)
    assert {point.config.step_size for point in expand(definition) if point.config} == {3}


def test_a_key_of_free_text_that_is_null_varies_among_its_choices() -> None:
    definition = bred("sweep.breed.vary=[output.match]", "sweep.breed.ranges.output.match=[source,null]")
    words = [word for point in points_of(definition)[3:] for word in point if word.startswith("output.match=")]
    assert {*words} == {"output.match=source", "output.match=null"}
    assert all(point.error == "" for point in expand(definition))


def test_colour_settings_that_are_off_change_by_as_much_as_is_of_use() -> None:
    definition = bred("sweep.breed.vary=[conditioning.decorrelate,conditioning.shoulder]", "sweep.breed.size=24")
    for key, least in (("conditioning.decorrelate", 0.1), ("conditioning.shoulder", 6)):
        texts = [word for point in points_of(definition) for word in point if word.startswith(f"{key}=")]
        assert max(float(text.partition("=")[2]) for text in texts) > least, key


def test_further_keys_vary_within_their_ranges() -> None:
    definition = bred("sweep.breed.vary=[conditioning.pull]", "sweep.breed.ranges.conditioning.pull=[0.1,0.2]")
    pulls = [point.config.conditioning.pull for point in expand(definition) if point.config][3:]
    assert all(pull == 0 or 0.1 <= pull <= 0.2 for pull in pulls)
    assert any(pulls)


def test_shared_settings_come_along_until_a_word_replaces_them() -> None:
    write(*FAVOURITES, shared={"image": "sample:hubble", "seed": "7"}, generation=2, version="0.0.1")
    definition = bred()
    assert (definition.config.image, definition.config.seed) == ("sample:hubble", 7)
    assert definition.lineage is not None
    assert definition.lineage.generation == 3
    assert "is of version 0.0.1" in definition.lineage.notes[0]
    assert bred("image=sample:chelsea").config.image == "sample:chelsea"


def test_a_group_of_the_users_own_is_a_choice(tmp_path: Path) -> None:
    (tmp_path / "mood").mkdir()
    for name, step in (("calm", 1), ("wild", 5), ("odd", 3)):
        (tmp_path / "mood" / f"{name}.yaml").write_text(f"# @package _global_\nstep_size: {step}\n")
    (tmp_path / "mine.yaml").write_text(
        "defaults: [{job: default}, {model: inception_v3}, {objective: auto}, {mood: calm}, _self_]\n"
        "name: mine\nimage: sample:chelsea\nsweep: {breed: {size: 2}}\n"
    )
    write({"mood": "calm", "seed": "1"}, {"mood": "wild", "seed": "2"})
    definition = bred("objective.terms=[mixed0]", root="mine.yaml")
    moods = {word for words in points_of(definition) for word in words if word.startswith("mood=")}
    assert moods <= {"mood=calm", "mood=wild", "mood=odd"}
    assert len(moods) > 1
    steps = {"mood=calm": 1, "mood=wild": 5, "mood=odd": 3}
    for point in expand(definition):
        assert point.config is not None
        assert point.config.step_size == next(steps[word] for word in point.words if word in steps)


def test_looks_are_inherited_and_change_among_networks_at_hand() -> None:
    write({"look": "none", "seed": "1"}, {"look": "dogs", "seed": "2"})
    definition = bred("sweep.breed.size=4")
    points = list(expand(definition))
    for point in points:
        assert point.config is not None
        look = dict(word.split("=", 1) for word in point.words).get("look", "none")
        assert point.config.model.name == load_config("preview", [f"look={look}"]).model.name
    assert {point.config.model.name for point in points if point.config} == {"googlenet", "inception_v3"}
    # Without a favourite of its network a look is not drawn.
    write({"look": "none", "seed": "1"}, {"look": "none", "seed": "2"})
    alone = [point.config for point in expand(bred("sweep.breed.mutation=1", "sweep.breed.size=3")) if point.config]
    assert {config.model.name for config in alone} == {"inception_v3"}


def test_a_group_that_is_typed_replaces_what_the_favourites_shared(tmp_path: Path) -> None:
    (tmp_path / "mood").mkdir()
    (tmp_path / "mood" / "calm.yaml").write_text("# @package _global_\nstep_size: 1\n")
    (tmp_path / "mine.yaml").write_text(
        "defaults: [{job: default}, {model: inception_v3}, {objective: auto}, {mood: calm}, _self_]\nname: mine\n"
    )
    write({"seed": "1"}, {"seed": "2"}, shared={"step_size": "7", "image": "sample:chelsea"})
    assert bred("sweep.breed.size=1", root="mine.yaml").config.step_size == 7
    definition = bred("mood=calm", "sweep.breed.size=1", root="mine.yaml")
    assert (definition.config.step_size, definition.config.image) == (1, "sample:chelsea")


def test_what_a_sweep_exports_is_bred_as_it_was_dreamed() -> None:
    grid = define_sweep("grid", ["image=sample:hubble", "octaves.count=3", "model=googlenet,inception_v3"])
    assert dict(word.split("=", 1) for word in shared_words(grid)) == {"image": "sample:hubble", "octaves.count": "3"}
    ranges = axis_ranges(grid)
    assert ranges == {"step_size": (0.75, 6.0), "octaves.scale": (1.25, 1.6)}


# Genes


def source(**limits: list[float]) -> GeneSource:
    """Return a source of genes of the default config."""
    return GeneSource({}, 0.25, {}, limits, ValueCheck(load_config("preview", [])))


@settings(max_examples=25)
@given(
    st.sampled_from(["step_size", "octaves.scale", "conditioning.pull", "conditioning.smoothing", "output.saturation"]),
    st.floats(0, 1), st.integers(0, 10**9),
)  # fmt: skip
def test_a_changed_number_is_valid_and_another_one(key: str, share: float, seed: int) -> None:
    largest = {"step_size": 255.0, "octaves.scale": 20.0, "conditioning.pull": 1.0}.get(key, 50.0)
    least = {"step_size": 0.01, "octaves.scale": 1.01}.get(key, 0.0)
    value = float(f"{least + share * (largest - least):.3g}")
    gene = source().gene(key, [value])
    assert isinstance(gene, NumberGene)
    assert gene.numbers.is_log == (least > 0)
    changed = gene.changed(value, Draws(seed), None)
    assert changed != value
    load_config("preview", [f"{key}={changed!r}"])


@settings(max_examples=12)
@given(st.integers(1, 12), st.integers(0, 10**9))
def test_whole_numbers_stay_whole_and_within_their_limits(value: int, seed: int) -> None:
    limits = {"octaves.count": [1, 12]}
    gene = source(**limits).gene("octaves.count", [value])
    changed = gene.changed(value, Draws(seed), None)
    assert isinstance(changed, int)
    assert changed != value
    assert 1 <= changed <= 12


@settings(max_examples=200)
@given(
    st.sampled_from(sorted(MODELS)),
    st.lists(st.tuples(st.integers(0, 10**6), st.sampled_from([1, 0.5, -2]), st.booleans()), min_size=1, max_size=3),
    st.integers(0, 10**9),
)
def test_changed_and_crossed_terms_name_layers_and_channels_that_exist(
    model: str, drawn: list[tuple[int, float, bool]], seed: int
) -> None:
    network = MODELS[model].architecture
    names = list(network.layers)
    terms = []
    for number, weight, has_channel in drawn:
        layer = network.layers[names[number % len(names)]]
        terms.append(f"{weight}*{layer.name}" + (f":{number % layer.channels}" if has_channel else ""))
    draws = Draws(seed)
    changed = changed_terms(terms, draws, network)
    for result in (changed, crossed_terms(terms, changed, draws), changed_terms([terms, terms], draws, network)[0]):
        assert result
        for written in result:
            term = parse_term(written)
            layer = network.layer(term.layer)
            assert all(channel < layer.channels for channel in getattr(term, "channels", ()))


def test_draws_are_uniform_and_normal() -> None:
    draws = Draws(3, 1)
    shares = [draws.share() for _ in range(4000)]
    normals = [draws.normal() for _ in range(4000)]
    assert abs(sum(shares) / 4000 - 0.5) < 0.02
    assert abs(math.sqrt(sum(value * value for value in normals) / 4000) - 1) < 0.05
    assert Draws(3, 1).share() == shares[0] != Draws(3, 2).share()


# Bad input


def test_all_keys_that_are_gone_are_named_with_the_nearest() -> None:
    write({"step_sise": "2", "seed": "1"}, {"octave.count": "3"}, version="0.0.1", generation=0)
    message = refused()
    for word in ("step_sise (did you mean 'step_size'?)", "octave.count (did you mean 'octaves.count'?)", "0.0.1"):
        assert word in message


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("", "lists no points"),
        ("[]", "lists no points"),
        ("points: []", "lists no points"),
        ("name: me\nseed: 3\n", "no list of points"),
        ("just words", "no list of points"),
        ("points: [1, 2]", "point 1 is no mapping"),
        ("{points: [{seed: 1}], generation: -1}", "'generation'"),
        ("{points: [{seed: 1}], shared: [1]}", "'shared'"),
        ("{points: [{seed: 1}], ranges: {seed: [2, 1]}}", "ranges.seed"),
        ("{points: [{seed: 1}], evil: 1}", "'evil'"),
        ("{points: [{seed: 1}], shared: {sweep.dir: /etc}}", "sweep.dir"),
        ("{points: [{seed: 1}], shared: {farm.workers: 9}}", "farm.workers"),
        ("{points: [{seed: 1}], shared: {image: s3://bucket/me.png}}", "no URLs"),
        ("- {step_size: -2}", "point 1: step_size=-2"),
        ("- {seed: 1}\n- {step_size: '${oc.env:HOME}'}", "values alone"),
        ("- {seed: '1,2'}", "several values"),
        ("- {objective.terms: '[mixed99]'}", "point 1: inception_v3 has no layer 'mixed99'"),
        ("- {image: nowhere.png}", "nowhere.png"),
        ("a: &a [x, x, x, x, x, x, x, x]\n" + "".join(
            f"{chr(98 + n)}: &{chr(98 + n)} [{', '.join([f'*{chr(97 + n)}'] * 9)}]\n" for n in range(7)), "not valid YAML"),
        ("- {seed: !!python/object/apply:os.system ['true']}", "not valid YAML"),
        ("- {seed: 1}\n--- \n- {seed: 2}", "not valid YAML"),
    ],
)  # fmt: skip
def test_a_file_that_cannot_be_bred_from_is_refused_in_one_line(content: str, said: str) -> None:
    Path("favourites.yaml").write_text(content)
    assert said in refused()


def test_a_picture_or_a_directory_is_no_file_of_favourites() -> None:
    Path("favourites.yaml").write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(range(256)))
    assert "from=favourites.yaml" in refused()
    Path("favourites.yaml").unlink()
    assert "there is no such file" in refused()
    Path("favourites.yaml").mkdir()
    assert "from=favourites.yaml" in refused()


def test_settings_without_meaning_are_refused() -> None:
    assert "must be from 0 to 1" in refused("sweep.breed.mutation=2")
    assert "must be above 0" in refused("sweep.breed.spread=0")
    assert "must be from 1" in refused("sweep.breed.size=0")
    assert "did you mean 'step_size'?" in refused("sweep.breed.vary=[stepsize]")
    assert "103 points are more than sweep.max=100" in refused("sweep.breed.size=100", "sweep.max=100")
    assert "the smaller first" in refused("sweep.breed.ranges.step_size=[3,1]")
    assert "the smaller first" in refused("sweep.breed.ranges.step_size=3")
    assert "did you mean 'step_size'?" in refused("sweep.breed.ranges.stepsize=[1,3]")
    assert "no single setting" in refused("sweep.breed.vary=[octaves]")
    assert "no picture depends on it" in refused("sweep.breed.vary=[farm.workers]")
    assert "every point has a directory of its own" in refused("sweep.breed.vary=[output.dir]")
    assert "both list points" in refused("sweep.points=favourites.yaml")
    write({"step_size": "2"})
    assert "leave a key to the favourites" in refused("step_size=3")


def test_where_nothing_new_can_be_drawn_one_line_says_so() -> None:
    write({"conditioning.luminance_only": "true"})
    definition = bred("sweep.breed.size=5")
    assert len(points_of(definition)) == 2
    assert definition.lineage is not None
    assert "only 1 of 5 new points" in definition.lineage.notes[0]
    assert "no new point in" in refused("sweep.breed.mutation=0")


def test_from_belongs_to_sweeps_alone(capsys: pytest.CaptureFixture[str]) -> None:
    assert is_sweep("preview", ["from=x.yaml"])
    assert main(["render", "conf=breed"]) == 2
    assert "make sweep conf=breed" in capsys.readouterr().err
    assert main(["plan", "conf=breed", "from=nowhere.yaml"]) == 2
    assert capsys.readouterr().err == "render: from=nowhere.yaml: there is no such file\n"


# Sweeps


def start(*words: str) -> subprocess.Popen[str]:
    """Start a bred sweep."""
    return subprocess.Popen(
        [sys.executable, "-m", "render", "sweep", *BREED, *TINY, *words],
        env=ENVIRONMENT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


def finished(process: subprocess.Popen[str]) -> Finished:
    """Wait for a sweep to end."""
    out, err = process.communicate(timeout=300)
    return Finished(process.returncode, out, err)


def records() -> list[dict]:
    """Return the records of all sweeps, by their directory's name."""
    return [json.loads(path.read_text()) for path in sorted(Path("sweeps").glob("*/sweep.json"))]


def test_a_killed_sweep_goes_on_with_its_own_points_although_the_file_has_changed() -> None:
    killed = start()
    deadline = time.monotonic() + 200
    while not list(Path("sweeps").glob("*/points/*/thumbnail.webp")):
        assert killed.poll() is None, killed.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.02)
    killed.send_signal(signal.SIGKILL)
    killed.communicate()
    (before,) = records()
    write({"step_size": "8"}, {"step_size": "0.5"})
    again = finished(start())
    assert again.code == 0, again.err
    assert "has changed since sweeps/breed-1-" in again.out + again.err
    (after,) = records()
    assert after["status"] == "finished"
    assert [point["words"] for point in after["points"]] == [point["words"] for point in before["points"]]
    assert after["breed"] == before["breed"]
    # Once it has ended, the changed file is the beginning of another sweep.
    other = finished(start("sweep.breed.size=1"))
    assert other.code == 0, other.err
    assert len(records()) == 2
    # The page names the parents, and leads to those on it.
    page = next(Path("sweeps").glob("*/index.html")).read_text()
    data = json.loads(page.partition('id="data">')[2].partition("</script>")[0])
    assert data["favourites"]["generation"] == 1
    assert all(point["parents"] for point in data["points"])
    assert data["points"][0]["parents"] == [[" ".join(data["points"][0]["words"]), 0]]


def test_a_named_directory_holds_one_sweep() -> None:
    Path("night").mkdir()
    definition = bred("sweep.dir=night")
    assert definition.lineage is not None
    fact = {
        "status": "finished",
        "points": [],
        "breed": {
            "generation": 1, "favourites": "f", "digest": "0" * 64, "settings": definition.lineage.settings,
            "parents": [], "shared": [], "ranges": {}, "points": [],
        },
    }  # fmt: skip
    Path("night/sweep.json").write_text(json.dumps(fact))
    assert "points of other favourites" in refused("sweep.dir=night")
    assert "bred otherwise" in refused("sweep.dir=night", "sweep.breed.seed=9")
    Path("night/sweep.json").write_text(json.dumps({"status": "finished", "points": []}))
    assert "another sweep" in refused("sweep.dir=night")


def test_python_breeds_too() -> None:
    result = sweep(
        favourites=Path("favourites.yaml"), root="breed", quiet=True,
        **{"sweep.breed.size": 1, "sweep.dir": "night", **TINY_SETTINGS},
    )  # fmt: skip
    assert not result.failures
    assert len(result.points) == 4


@pytest.mark.parametrize(
    ("word", "said"),
    [
        ("output.path=/tmp/mine.png", "output.path"),
        ("farm.workers=9", "farm.workers"),
        ("seed=${oc.env:HOME}", "values alone"),
        ("image=s3://bucket/me.png", "no URLs"),
        ("sead=1", "did you mean 'seed'?"),
        ("seed", "seed"),
    ],
)
def test_a_record_that_somebody_sent_is_data(word: str, said: str) -> None:
    Path("night").mkdir()
    lineage = bred("sweep.dir=night").lineage
    assert lineage is not None
    for part in ({"points": [{"words": [word], "parents": [0]}]}, {"parents": [[word]]}, {"shared": [word]}):
        fact = {
            "generation": 1, "favourites": "f", "digest": lineage.digest, "settings": lineage.settings,
            "parents": [["step_size=2"]], "shared": [], "ranges": {}, "points": [], **part,
        }  # fmt: skip
        Path("night/sweep.json").write_text(json.dumps({"status": "interrupted", "points": [], "breed": fact}))
        assert said in refused("sweep.dir=night")


def test_points_are_counted_while_they_are_drawn(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(point_progress, "LINE_EVERY_S", 0.0)
    bred("sweep.breed.keep=false", "sweep.breed.size=2")
    line = capsys.readouterr().out
    assert line.startswith("drawing: 1 of 2 points, ")
    assert line.count("\n") == 1


def test_a_line_about_points_comes_every_quarter_of_a_minute(capsys: pytest.CaptureFixture[str]) -> None:
    seconds = iter([0.0, 5.0, 16.0, 20.0, 32.0, 50.0])
    progress = PointProgress("checking", 5, quiet=False, clock=lambda: next(seconds))
    for _ in range(5):
        progress.advance()
    assert capsys.readouterr().out.splitlines() == [
        "checking: 2 of 5 points, 16 s so far, about 24 s left",
        "checking: 4 of 5 points, 32 s so far, about 8 s left",
    ]
    progress = PointProgress("checking", 5, quiet=True, clock=iter([0.0, 50.0]).__next__)
    progress.advance()
    assert capsys.readouterr().out == ""
