"""Text from outside on its way to a terminal, a log and a table."""

from __future__ import annotations

import io
import json
import logging
import os
import shutil
import sys
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from rich.table import Table

from render.errors import UserError, WorkersLost
from render.system.logs import EscapedLines, JsonLines
from render.terminal.console import PatientConsole
from render.terminal.text import escaped, without_colours
from tests.conftest import TINY, Finished

#: What moves a cursor, breaks a line or turns the direction of writing.
DANGEROUS = {"Cc", "Cs", "Zl", "Zp", "Co", "Cn"}


@given(st.text(st.characters()))
def test_escaped_text_is_one_line_that_moves_no_cursor(text: str) -> None:
    shown = escaped(text)
    assert not {unicodedata.category(letter) for letter in shown} & DANGEROUS
    assert not set(shown) & set("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069\u200e\u200f\ufeff\u061c")
    assert len(shown.splitlines()) <= 1
    assert escaped(shown) == shown
    shown.encode("utf-8")


@pytest.mark.parametrize(
    "text", ["", "plain", "café あ", "a [b] [/c] \\ %s {x}", "a\u00a0b\u3000c", "👩\u200d👧", "नि\u200cत्य"]
)
def test_text_that_harms_nothing_stays(text: str) -> None:
    assert escaped(text) == text


def test_escapes_say_what_was_there() -> None:
    assert escaped("a\nb\x1b[31m\u202e\udce9\x9b") == r"a\nb\x1b[31m\u202e\udce9\x9b"
    assert without_colours("\x1b[36m(pid=1)\x1b[0m says") == "(pid=1) says"


@pytest.mark.parametrize("kind", [UserError, WorkersLost])
def test_messages_of_errors_are_one_line(kind: type[Exception]) -> None:
    assert str(kind("image 'a\nb\x1b[2J' is none")) == r"image 'a\nb\x1b[2J' is none"


def test_tables_show_brackets_and_escapes_as_text() -> None:
    stream = io.StringIO()
    console = PatientConsole(file=stream, width=100)
    table = Table(title="my [b] [/] dream")
    table.add_column("x [red]")
    table.add_row("a [/b] :smile: \x1b[31m")
    console.print(table)
    console.write_line("my [b].png\n[/" + "x" * 200)
    shown = stream.getvalue()
    for text in ("my [b] [/] dream", "x [red]", r"a [/b] :smile: \x1b[31m", r"my [b].png\n[/" + "x" * 200):
        assert text in shown
    assert "\x1b" not in shown


def logged(formatter: logging.Formatter, message: str, *, fail: bool = False) -> str:
    record = logging.LogRecord("render", logging.ERROR, __file__, 1, "%s", (message,), None)
    if fail:
        try:
            raise ValueError(message)
        except ValueError:
            record.exc_info = sys.exc_info()
    return formatter.format(record)


def test_a_logged_message_is_one_line() -> None:
    formatter = EscapedLines("%(levelname)s %(message)s")
    assert logged(formatter, "a\n2026 INFO forged\x1b[2J") == r"ERROR a\n2026 INFO forged\x1b[2J"
    first, *traceback = logged(formatter, "a\x1b[2J", fail=True).splitlines()
    assert first == r"ERROR a\x1b[2J"
    assert traceback[0].startswith("Traceback")
    assert traceback[-1] == r"ValueError: a\x1b[2J"


def test_json_lines_hold_the_message_without_control_characters() -> None:
    message = "a\nb\x1b[2J\x9b\u2028\u202e あ"
    line = logged(JsonLines("run"), message)
    assert line.isprintable()
    assert json.loads(line)["message"] == message


@pytest.mark.parametrize("name", ["my [b] [.png", "esc\x1b[31m.png", "two\nlines.png", "gnp\u202e.png", "\x9b31m.png"])
def test_a_render_shows_any_name_as_text(name: str, command, tmp_path) -> None:
    Image.new("RGB", (120, 90), (90, 120, 60)).save(tmp_path / name)
    words = [word for word in TINY if not word.startswith("image=")]
    finished: Finished = command(*words, f"image={name}", f"output.dir=run of {name}")
    assert finished.code == 0, finished.err
    shown = escaped(name)
    assert finished.out.splitlines()[0].startswith(f"{shown} -> ")
    assert f"run of {shown}/preview.png" in finished.out.splitlines()
    assert (tmp_path / f"run of {name}" / "preview.png").exists()
    log = (tmp_path / f"run of {name}" / "render.log").read_text(encoding="utf-8")
    for text in (finished.out, finished.err, log):
        assert all(line.isprintable() for line in text.split("\n"))
    assert f"run of {shown}/preview.png" in log


def test_markup_in_a_path_ends_nothing(command, tmp_path) -> None:
    (tmp_path / "x[").mkdir()
    Image.new("RGB", (120, 90), (90, 120, 60)).save(tmp_path / "x[" / "b].png")
    words = [word for word in TINY if not word.startswith("image=")]
    for action in ("plan", "render"):
        finished = command(action, *words, "image=x[/b].png")
        assert finished.code == 0, finished.err
        assert "x[/b].png" in finished.out


@pytest.mark.parametrize("encoding", ["ascii", "latin-1"])
def test_a_name_that_the_output_cannot_hold_is_escaped(encoding: str, command, tmp_path) -> None:
    Image.new("RGB", (120, 90), (90, 120, 60)).save(tmp_path / "あ.png")
    words = [word for word in TINY if not word.startswith("image=")]
    for action in ("plan", "render"):
        finished = command(action, *words, "image=あ.png", env={"PYTHONIOENCODING": encoding})
        assert finished.code == 0, finished.err
        assert r"\u3042.png" in finished.out
    refused = command("render", *words, "image=い.png", env={"PYTHONIOENCODING": encoding})
    refused.refused(r"\u3044.png")


def test_a_name_that_is_no_text_works_everywhere(command, tmp_path) -> None:
    """A name of bytes that are no UTF-8, and any other where the locale knows ASCII alone: both are undecodable."""
    folder = os.fsdecode(b"f\xe9")
    (tmp_path / folder).mkdir()
    picture = tmp_path / folder / os.fsdecode(b"p\xff.png")
    Image.new("RGB", (120, 90), (90, 120, 60)).save(picture)
    words = [word for word in TINY if not word.startswith("image=")]
    run = f"{folder}/run"
    rendered = command(*words, f"image={folder}/{picture.name}", f"output.dir={run}", f"output.path={folder}/out.dzi")
    assert rendered.code == 0, rendered.err
    assert (tmp_path / folder / "out" / "dream.dzi").exists()
    assert r"p\udcff.png" in rendered.out
    for action in (["export", f"run={run}", f"output.path={folder}/out.tif"], ["status", f"run={run}"]):
        finished = command(*action)
        assert finished.code == 0, finished.err
    with Image.open(tmp_path / folder / "out.tif") as exported:
        assert exported.width == 96
    swept = command("sweep", *words, f"image={folder}/*.png", "seed=1,2", f"sweep.dir={folder}/sweep")
    assert swept.code == 0, swept.err
    assert r"image=f\udce9/p\udcff.png" in (tmp_path / folder / "sweep" / "index.html").read_text(encoding="utf-8")
    ascii_only = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    shutil.copy(picture, tmp_path / "é.png")
    finished = command(*words, "image=é.png", "output.dir=é", env=ascii_only)
    assert finished.code == 0, finished.err
    assert (tmp_path / "é" / "preview.png").exists()
