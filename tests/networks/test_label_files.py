"""Class names in a user's file: as data sets publish them or plain, bounded, and never more or fewer than classes."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from render.networks.label_files import read_names
from render.networks.labels import Classifier, ClassName, class_names, find_class, top_classes
from tests.conftest import SHARED, needs, refusal


def written(tmp_path: Path, content: str | bytes) -> Path:
    path = tmp_path / "labels.txt"
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


@pytest.mark.parametrize(
    ("content", "names"),
    [
        ("abbey\nairport terminal\nalley\n", ("abbey", "airport terminal", "alley")),
        ("abbey\r\nalley", ("abbey", "alley")),
        ("\ufeffabbey\nalley\n\n\n", ("abbey", "alley")),
        ("/a/abbey 0\n/a/airfield/outdoor 1\n/b/bar 2\n", ("abbey", "airfield/outdoor", "bar")),
        ("'/a/abbey' 0\n'/a/alley' 1\n", ("abbey", "alley")),
        ("cat,1\ndog,2\n", ("cat", "dog")),
        ("route 66\nroute 1\n", ("route 66", "route 1")),
        ("Washington, D.C.\nrome\n", ("Washington, D.C.", "rome")),
        ("/a/abbey\nalley\n", ("/a/abbey", "alley")),
        ("Straße\n\u97f3\u697d\u5802\n", ("Straße", "\u97f3\u697d\u5802")),
    ],
)
def test_names_are_read_in_every_usual_form(content: str, names: tuple[str, ...], tmp_path: Path) -> None:
    assert read_names(written(tmp_path, content)) == tuple((name,) for name in names)


def test_imagenets_own_list_has_its_synonyms(tmp_path: Path) -> None:
    assert read_names(needs(SHARED / "weights" / "imagenet_synset_words.txt")) == class_names("googlenet")


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "line 1 is empty"),
        ("abbey\n\nalley\n", "line 2 is empty"),
        ("a" * 501, "line 1 has over 500 characters"),
        ("abbey\nal\x1b[31mley\n", r"line 2 holds characters that cannot be shown: 'al\x1b[31mley'"),
        ("abbey\nal\u202eley\n", r"cannot be shown: 'al\u202eley'"),
        (b"\xff\xfea\x00", "is no text in UTF-8"),
        ("a\n" * 60_000, "has 60,000 lines, and a classifier at most 50,000 classes"),
        (b"a" * (5 << 20), "larger than 4 MiB"),
    ],
)
def test_what_is_no_list_of_names_is_refused(content: str | bytes, said: str, tmp_path: Path) -> None:
    message = refusal(lambda: read_names(written(tmp_path, content)))
    assert message.startswith(f"model.labels={tmp_path / 'labels.txt'}")
    assert said in message


def test_a_missing_file_and_a_directory_are_refused(tmp_path: Path) -> None:
    assert "there is no such file" in refusal(lambda: read_names(tmp_path / "none.txt"))
    assert "a directory, not a file" in refusal(lambda: read_names(tmp_path))


@given(names=st.lists(st.text(st.characters(categories=("L", "N")), min_size=1, max_size=20), min_size=2, max_size=30))
def test_every_plain_name_is_found_by_index_and_unless_shared_by_name(
    names: list[str], tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.getbasetemp() / "plain.txt"
    path.write_text("\n".join(names), encoding="utf-8")
    read = [synonyms[0] for synonyms in read_names(path)]
    assert read == names
    classifier = Classifier("googlenet", len(names), path)
    for index, name in enumerate(names):
        assert find_class(index, classifier) == find_class(str(index), classifier) == ClassName(index, name)
        is_number = name.isascii() and name.isdecimal()
        if not is_number and [other.lower() for other in names].count(name.lower()) == 1:
            assert find_class(name, classifier) == ClassName(index, name)


@pytest.mark.parametrize("count", [364, 366])
def test_the_count_of_names_must_be_that_of_the_classes(count: int, tmp_path: Path) -> None:
    path = written(tmp_path, "\n".join(f"place number {index} x" for index in range(count)))
    classifier = Classifier("googlenet", 365, path)
    for call in (lambda: class_names(classifier), lambda: find_class(3, classifier), lambda: find_class("x", classifier)):
        assert f"has {count} names, and googlenet tells 365 classes apart" in refusal(call)


def test_without_names_classes_go_by_index_alone() -> None:
    classifier = Classifier("googlenet", 365, weights=Path("places.caffemodel"))
    assert find_class(364, classifier) == ClassName(364, "class 364")
    assert "has no class 365: its classes are 0 to 364" in refusal(lambda: find_class(365, classifier))
    message = refusal(lambda: find_class("abbey", classifier))
    assert "the 365 classes of model.weights=places.caffemodel are not ImageNet's" in message
    assert "give model.labels=FILE with one name on each line, or the class by its index, 0 to 364" in message


def test_a_place_is_found_by_its_words(tmp_path: Path) -> None:
    path = written(tmp_path, "/a/airfield 0\n/a/apartment_building/outdoor 1\n/b/building_facade 2\n")
    classifier = Classifier("googlenet", 3, path)
    for words in ("apartment building outdoor", "apartment_building/outdoor", "Apartment", "outdoor building"):
        assert find_class(words, classifier) == ClassName(1, "apartment_building/outdoor")
    assert "may be" in refusal(lambda: find_class("building", classifier))
    assert "give one of the classes of labels.txt, or an index from 0 to 2" in refusal(
        lambda: find_class("zzz", classifier)
    )


def test_names_of_a_file_name_the_likeliest(tmp_path: Path) -> None:
    import numpy as np

    names = class_names(Classifier("googlenet", 2, written(tmp_path, "left\nright\n")))
    assert [name for _, name, _ in top_classes(np.array([0.0, 1.0]), names)] == ["right", "left"]
