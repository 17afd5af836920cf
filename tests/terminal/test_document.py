"""Documents of commands: text within the width of the terminal, JSON for programs, and safe for both."""

from __future__ import annotations

import io
import json

import pytest

from render.terminal.document import Column, Document, Table
from render.terminal.lines import line_width

COLUMNS = (
    Column("name", lambda record: record["name"]),
    Column("time", lambda record: f"{record['seconds']} s", is_number=True),
)


def document(name: str = "mixed3") -> Document:
    sample = Document("sample")
    sample.sentence("a sweep", directory="sweeps/a")
    sample.table(Table("two layers", COLUMNS, [{"name": name, "seconds": 1.5}, {"name": "b", "seconds": 20}]), key="layers")
    sample.fact("memory", "4.9 GB in all", memory_bytes=4_900_000_000)
    sample.values(workers=2)
    return sample


def test_text_and_json_have_the_same_facts() -> None:
    assert document().lines(80) == [
        "a sweep",
        "",
        "two layers",
        "name     time",
        "------  -----",
        "mixed3  1.5 s",
        "b        20 s",
        "",
        "memory       4.9 GB in all",
    ]
    assert json.loads(document().json()) == {
        "document": "sample", "version": 1, "directory": "sweeps/a",
        "layers": [{"name": "mixed3", "seconds": 1.5}, {"name": "b", "seconds": 20}],
        "memory_bytes": 4_900_000_000, "workers": 2,
    }  # fmt: skip


def test_outside_text_moves_no_cursor_in_either_form() -> None:
    name = "esc\x1b[31m\u202e\udce9\nnext"
    lines = document(name).lines(200)
    assert any(r"esc\x1b[31m\u202e\udce9" in line for line in lines)
    assert all(line.isprintable() for line in lines)
    text = document(name).json()
    text.encode("ascii")
    assert json.loads(text)["layers"][0]["name"] == name


def test_a_value_cannot_replace_another() -> None:
    with pytest.raises(AssertionError):
        document().values(workers=3)


@pytest.mark.parametrize(("encoding", "rule"), [("utf-8", "──────"), ("ascii", "------"), ("latin-1", "------")])
def test_lines_below_headings_are_as_the_output_can_write_them(
    encoding: str, rule: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    stream = io.TextIOWrapper(io.BytesIO(), encoding)
    monkeypatch.setattr("sys.stdout", stream)
    document().print(as_json=False)
    stream.seek(0)
    assert f"\n{rule}  " in stream.read()


@pytest.mark.parametrize(
    ("columns", "width"), [("60", 60), ("200", 200), ("5", 20), ("0", 80), ("-3", 80), ("wide", 80), (None, 80)]
)
def test_columns_says_how_wide_lines_are(columns: str | None, width: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("COLUMNS", raising=False)
    if columns is not None:
        monkeypatch.setenv("COLUMNS", columns)
    # No terminal: pytest has replaced standard output, and the process may have one.
    monkeypatch.setattr("sys.__stdout__", None)
    assert line_width() == width
