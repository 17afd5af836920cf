"""Text and tables fit into any width, with numbers beside their units and nothing left out."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len

from render.terminal.line_layout import table_lines, wrapped

WORDS = st.text(st.sampled_from("abcdefgxyz,.:/_-あß"), min_size=1, max_size=24)
NUMBERS = st.builds(
    lambda number, form: form.format(number), st.integers(0, 10**6), st.sampled_from(["{}", "{:,}", "{}.5"])
)
UNITS = st.sampled_from(["s", "min", "px", "GB", "Mpx/s", "%", "TFLOP/s", "bytes"])
QUANTITIES = st.one_of(
    st.builds("{} {}".format, NUMBERS, UNITS),
    st.builds("{} min {} s".format, st.integers(0, 59), st.integers(0, 59)),
    st.builds("{} x {} px".format, st.integers(1, 9999), st.integers(1, 9999)),
    st.builds("x {}".format, NUMBERS),
    st.builds("< {} %".format, NUMBERS),
)
#: Words between quantities, so that one does not continue the other.
TEXTS = st.lists(st.one_of(WORDS, st.builds("{} and".format, QUANTITIES)), min_size=1, max_size=30).map(" ".join)
WIDTHS = st.integers(20, 200)


def words_of(lines: list[str]) -> list[str]:
    return " ".join(lines).split()


def longest_word(*texts: str) -> int:
    return max((cell_len(word) for text in texts for word in text.split()), default=0)


@given(TEXTS, WIDTHS, st.sampled_from(["", "memory", "arithmetic"]), st.integers(0, 19))
def test_text_is_wrapped_within_the_width_and_loses_no_word(text: str, width: int, label: str, indent: int) -> None:
    lines = wrapped(text, width, label=label, indent=indent)
    assert words_of(lines) == [*label.split(), *text.split()]
    for line in lines:
        assert cell_len(line) <= width or longest_word(line) > width, (line, width)


@given(st.lists(QUANTITIES, min_size=1, max_size=8), TEXTS, st.integers(24, 200))
def test_numbers_stay_with_their_units(quantities: list[str], text: str, width: int) -> None:
    lines = wrapped(" and ".join([text, *quantities]), width, label="time", indent=13)
    for quantity in quantities:
        assert any(quantity in line for line in lines), (quantity, lines)


@pytest.mark.parametrize("width", range(20, 60))
def test_a_duration_is_never_broken(width: int) -> None:
    lines = wrapped("about 1 min 46 s at 0.80 Mpx/s, from what a window took just now", width, label="time", indent=13)
    assert any("1 min 46 s" in line for line in lines)
    assert any("0.80 Mpx/s," in line for line in lines)


def test_a_long_word_has_a_line_of_its_own_and_stays_whole() -> None:
    path = "/home/me/.cache/pareidolia/weights/inception_v3-431e13432cdd.safetensors"
    lines = wrapped(f"{path}, sha256 431e13432cdd", 80, label="weights", indent=13)
    assert lines == ["weights", f"       {path},", "             sha256 431e13432cdd"]
    assert wrapped(f"in {path}, sha256", 40, label="weights", indent=13) == [
        "weights      in", f"             {path},", "             sha256",
    ]  # fmt: skip
    assert wrapped(path, 40, label="weights", indent=13) == [f"weights      {path}"]


@st.composite
def tables(draw: st.DrawFn) -> tuple[list[str], list[list[str]], list[bool]]:
    count = draw(st.integers(1, 9))
    headings = draw(
        st.lists(st.sampled_from(["octave", "canvas px", "halo work", "time", "it"]), min_size=count, max_size=count)
    )
    cell = st.one_of(QUANTITIES, st.builds(" ".join, st.lists(WORDS, max_size=8)))
    rows = draw(st.lists(st.lists(cell, min_size=count, max_size=count), max_size=6))
    return headings, rows, draw(st.lists(st.booleans(), min_size=count, max_size=count))


@given(tables(), WIDTHS)
def test_a_table_fits_and_loses_no_word(table: tuple[list[str], list[list[str]], list[bool]], width: int) -> None:
    headings, rows, numbers = table
    lines = table_lines(headings, rows, numbers, width)
    for line in lines:
        assert cell_len(line) <= width or longest_word(line) > width, (line, width)
    texts = [cell for row in rows for cell in row]
    shown = [word for word in words_of(lines) if word.strip("-")]
    for word in {word for text in texts for word in text.split() if word.strip("-")}:
        assert shown.count(word) >= sum(text.split().count(word) for text in texts), word


@given(tables(), WIDTHS)
def test_quantities_in_cells_are_never_broken(table: tuple[list[str], list[list[str]], list[bool]], width: int) -> None:
    headings, rows, numbers = table
    lines = table_lines(headings, rows, numbers, width)
    for cell in (cell for row in rows for cell in row if re.fullmatch(r"(x |< )?[\d,.]+( \S+){0,3}", cell)):
        if cell_len(cell) <= 20:
            assert any(cell in line for line in lines), (cell, lines)


def test_a_table_has_columns_if_they_fit_then_changes_sides_then_has_a_fact_on_each_line() -> None:
    headings = ["workers", "kernels", "efficiency", "checkpoint"]
    rows = [["1", "0.73 s", "100 %", "1.9 s"], ["8", "0.092 s", "99 %", "1.9 s"]]
    numbers = [True] * 4
    assert table_lines(headings, rows, numbers, 60) == [
        "workers  kernels  efficiency  checkpoint",
        "-------  -------  ----------  ----------",
        "      1   0.73 s       100 %       1.9 s",
        "      8  0.092 s        99 %       1.9 s",
    ]
    assert table_lines(headings, rows, numbers, 30) == [
        "workers          1        8",
        "----------  ------  -------",
        "kernels     0.73 s  0.092 s",
        "efficiency   100 %     99 %",
        "checkpoint   1.9 s    1.9 s",
    ]
    assert table_lines(headings, rows, numbers, 24)[:6] == [
        "workers     1",
        "kernels     0.73 s",
        "efficiency  100 %",
        "checkpoint  1.9 s",
        "",
        "workers     8",
    ]


def test_headings_and_prose_are_wrapped_but_short_cells_are_not() -> None:
    headings, numbers = ["halo work", "what there will be more of"], [True, False]
    rows = [["x 2.22", "all that a layer sees, or some of its channels"]]
    assert table_lines(headings, rows, numbers, 40) == [
        "halo work  what there will be more of",
        "---------  -----------------------------",
        "   x 2.22  all that a layer sees, or",
        "           some of its channels",
    ]
    narrow = table_lines(headings, rows, numbers, 28)
    assert narrow[:2] == ["    halo  what there will be", "    work  more of"]


def test_columns_are_counted_as_a_terminal_shows_them() -> None:
    lines = table_lines(["name", "px"], [["あああ", "1"], ["ab", "22"]], [False, True], 40)
    assert lines == ["name    px", "------  --", "あああ   1", "ab      22"]


def test_a_table_without_rows_is_its_headings() -> None:
    assert table_lines(["name", "px"], [], [False, True], 40) == ["name  px", "----  --"]
