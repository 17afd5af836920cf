"""Text on pictures: it fits, it can be read, and there is no text that cannot be written."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from PIL import Image

from render.export import lettering
from render.export.lettering import draw_line, fitted, line_height, most_lines, shortened, text_width, tidy, wrapped

NAMES = st.text(st.sampled_from("abcXYZ019 _-/.,=:[]"), max_size=80)
ANY = NAMES | st.text(max_size=30)
SIZES = st.integers(11, 28)


def drawn(
    text: str, size: int = 20, *, across: float = 0, room: float = 1e9, shape: tuple[int, int] = (80, 400)
) -> np.ndarray:
    """Return which pixels have ink after a line is drawn from the middle of a picture on."""
    sheet = Image.new("RGB", (shape[1], shape[0]))
    draw_line(sheet, (20, shape[1] // 2), tidy(text), size, (255, 255, 255), across=across, room=room)
    return np.asarray(sheet).max(-1) > 0


@given(text=ANY, size=SIZES, room=st.integers(20, 300))
def test_shortened_text_fits_and_keeps_both_ends(text: str, size: int, room: int) -> None:
    short = shortened(text, size, room)
    assert text_width(short, size) <= room
    if text_width(tidy(text), size) <= room:
        assert short == tidy(text)
    elif len(short) > 4:
        head, tail = short.split("\N{HORIZONTAL ELLIPSIS}", 1)
        assert tidy(text).startswith(head)
        assert tidy(text).endswith(tail)
        assert abs(len(head) - len(tail)) <= 3  # spaces beside the gap are not kept


@given(text=ANY, size=SIZES, room=st.integers(30, 300), most=st.integers(1, 5))
@example("photos/" + "x" * 300, 11, 60, 2)
def test_wrapped_text_fits_and_loses_nothing_where_there_is_room(text: str, size: int, room: int, most: int) -> None:
    lines = wrapped(text, size, room, most)
    assert len(lines) <= most
    assert all(text_width(line, size) <= room for line in lines)
    everything = wrapped(text, size, room, 1000)
    assert "".join("".join(everything).split()) == "".join(tidy(text).split())
    assert (lines == everything) == (len(everything) <= most)
    assert most_lines([text, ""], size, room, most) == min(most, len(everything))


def test_lines_end_at_the_joints_of_names_and_not_within_numbers() -> None:
    assert wrapped("holiday_2024/IMG_1234.jpeg", 14, 100, 9) == ["holiday_2024/", "IMG_1234.jpeg"]
    width = text_width("scale=1,500.25", 14) - 1
    assert wrapped("scale=1,500.25", 14, width, 9) == ["scale=", "1,500.25"]


def test_what_is_left_of_a_long_text_uses_the_room_that_there_is() -> None:
    text = " ".join(f"word{number}" for number in range(200))
    lines = wrapped(text, 14, 200, 4)
    assert len(lines) == 4
    assert lines[0].startswith("word0")
    assert lines[-1].endswith("word199")


def test_letters_get_smaller_before_text_is_shortened() -> None:
    room = text_width("a name of some length", 16)
    assert fitted("a name of some length", 24, room) == ("a name of some length", 16)
    text, size = fitted("a name of some length" * 4, 24, room)
    assert size == lettering.MIN_FONT
    assert "\N{HORIZONTAL ELLIPSIS}" in text


@pytest.mark.parametrize("pango", [True, False], ids=["fonts", "no fonts"])
@pytest.mark.parametrize(
    "text", ["mixed4:12", "Größe", "Жизнь", "猫の写真", "مرحبا", "e\u0301\u0301", "\U0001f436", "x\ud800\0\n"]
)
@pytest.mark.parametrize("across", [0, 0.5, 1])
def test_every_text_is_written_within_its_line(
    text: str, pango: bool, across: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not pango:
        monkeypatch.setattr(lettering, "_has_pango", lambda: False)
    width = text_width(tidy(text), 20)
    ink = drawn(text, across=across, room=width)
    rows, columns = np.nonzero(ink)
    assert len(rows) > 20
    assert 20 <= rows.min() <= rows.max() < 20 + line_height(20)
    # Letters lean over their place by a pixel or two.
    assert 200 - across * width - 2 <= columns.min() <= columns.max() <= 200 + (1 - across) * width + 2


@settings(max_examples=60)
@given(text=st.text(min_size=1, max_size=12), room=st.integers(20, 120))
@example(text="\xad", room=20)
def test_any_text_can_be_written_into_its_room(text: str, room: int) -> None:
    rows, columns = np.nonzero(drawn(shortened(text, 14, room), 14, room=room))
    if len(rows):
        assert 20 <= rows.min() <= rows.max() < 20 + line_height(14)
        assert 198 <= columns.min() <= columns.max() <= 200 + room + 2


@pytest.mark.parametrize("pango", [True, False], ids=["fonts", "no fonts"])
def test_letters_that_pillows_font_lacks_are_told_apart(pango: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if not pango:
        monkeypatch.setattr(lettering, "_has_pango", lambda: False)
    assert len({drawn(letter).tobytes() for letter in "äöüéñ"}) == 5


def test_without_fonts_accents_are_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lettering, "_has_pango", lambda: False)
    np.testing.assert_array_equal(drawn("Zürich"), drawn("Zurich"))


def test_text_is_never_markup() -> None:
    if not lettering._has_pango():
        pytest.skip("needs a font that fontconfig finds")
    plain, tagged = drawn("ü"), drawn("<b>ü</b>")
    assert tagged.sum() > 3 * plain.sum()
    assert drawn("&lt;ü").sum() > drawn("<ü").sum()
