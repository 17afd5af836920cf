"""The server behind `view` of a film: its file by ranges, its frames and their sources, and nothing else."""

from __future__ import annotations

import http.client
import io
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from render.commands.view import view_command
from render.errors import UserError
from render.film.video.encoding import encode_segment
from render.film.video.film_formats import choose
from render.viewer.live_film import LiveFilm
from render.viewer.open_part import NoSuchPart, byte_range
from tests.film.video.clips import write_clip
from tests.support.tiny_film import RATE, SHAPE, TinyFilm, frame, shown
from tests.viewer.test_view import get


def test_ranges_of_bytes_together_are_the_film_s_file(tmp_path: Path) -> None:
    film = TinyFilm(tmp_path / "film")
    film.finish()
    content = (film.directory / "zoom.mp4").read_bytes()
    parts = []
    with shown(film) as server:
        for start in range(0, len(content), 1000):
            connection = http.client.HTTPConnection("127.0.0.1", server.server_port, timeout=30)
            connection.request("GET", "/film?version=1", headers={"Range": f"bytes={start}-{start + 999}"})
            answer = connection.getresponse()
            assert answer.status == 206
            stop = min(start + 1000, len(content))
            assert answer.headers["Content-Range"] == f"bytes {start}-{stop - 1}/{len(content)}"
            parts.append(answer.read())
            connection.close()
    assert b"".join(parts) == content


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        (None, None), ("bytes=0-", (0, 100)), ("bytes=10-19", (10, 20)), ("bytes=90-200", (90, 100)),
        ("bytes=-7", (93, 100)), ("bytes=-700", (0, 100)), ("bytes=-", None),
        ("bytes=5-3", None), ("bytes=0-1,5-6", None), ("lines=1-2", None),
    ],
)  # fmt: skip
def test_a_range_header_is_read_as_http_says(header: str | None, expected: tuple[int, int] | None) -> None:
    assert byte_range(header, 100) == expected


@pytest.mark.parametrize("header", ["bytes=100-", "bytes=-0", "bytes=999-1000"])
def test_a_range_outside_of_the_file_is_refused(header: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no byte"):
        byte_range(header, 100)
    film = TinyFilm(tmp_path / "film", 2)
    film.make(1)
    with shown(film) as server:
        size = (film.directory / "frames" / "000000.png").stat().st_size
        far = header.replace("100", str(size)).replace("999-", f"{size}-")
        assert get(server, "/frames/0.png", Range=far)[0] == 416


def test_nothing_but_the_film_is_served(tmp_path: Path) -> None:
    film = TinyFilm(tmp_path / "film", 6)
    film.make(3)
    (tmp_path / "secret").write_bytes(b"secret")
    # A picture of a frame that is not counted yet, and one that is a link.
    shutil.copy(film.directory / "frames" / "000000.png", film.directory / "frames" / "000003.png")
    (film.directory / "frames" / "000001.png").unlink()
    (film.directory / "frames" / "000001.png").symlink_to(tmp_path / "secret")
    wrong = [
        "/run.json", "/frames.json", "/../secret", "/frames/../../secret", "/frames/%2e%2e/%2e%2e/secret", "/film",
        "/frames/1.png", "/frames/3.png", "/frames/999999999.png", "/frames/-1.png", "/frames/0.jpg", "/frames/0.png%00",
        "/source/6.jpg", "/source/0.png", "//etc/passwd", "/frames/000000.png/..",
    ]  # fmt: skip
    with shown(film) as server:
        for address in wrong:
            status, body = get(server, address)
            assert status == 404, address
            assert b"secret" not in body
        assert get(server, "/frames/0.png")[1] == (film.directory / "frames" / "000000.png").read_bytes()
        assert get(server, "/frames/0.png", Host=f"elsewhere.example:{server.server_port}")[0] == 403


@pytest.mark.parametrize("name", ["../secret.mp4", "/etc/passwd", "link.mp4", "run.json", "a/b.mp4", 7, ["x.mp4"]])
def test_a_record_names_no_file_outside_of_the_film(name: object, tmp_path: Path) -> None:
    film = TinyFilm(tmp_path / "film", 2)
    film.finish()
    (tmp_path / "secret.mp4").write_bytes(b"secret")
    (film.directory / "link.mp4").symlink_to(tmp_path / "secret.mp4")
    film.save(film_file=name)
    live = LiveFilm(film.directory)
    assert live.status()["video"] is None
    with pytest.raises(NoSuchPart):
        live.video()


def test_a_pipe_in_place_of_the_file_holds_nobody_up(tmp_path: Path) -> None:
    film = TinyFilm(tmp_path / "film", 2)
    film.finish()
    (film.directory / "zoom.mp4").unlink()
    os.mkfifo(film.directory / "zoom.mp4")
    with pytest.raises(NoSuchPart):
        LiveFilm(film.directory).video()


@pytest.mark.parametrize(
    "facts",
    [
        {"rate": "1/0"},
        {"rate": "x"},
        {"shape": [0, 4]},
        {"shape": [10**9, 4]},
        {"shape": 3},
        {"frames": -1},
        {"frames": 10**12},
    ],
)  # fmt: skip
def test_a_record_without_the_facts_of_a_film_is_refused_in_one_line(facts: dict, tmp_path: Path) -> None:
    film = TinyFilm(tmp_path / "film", 2)
    film.save(**facts)
    with pytest.raises(UserError, match="has not the length, size and rate") as refused:
        view_command([f"run={film.directory}", "open=false"])
    assert "\n" not in str(refused.value)


def test_a_film_whose_process_is_gone_says_so(tmp_path: Path) -> None:
    film = TinyFilm(tmp_path / "film", 6)
    film.make(2)
    status = LiveFilm(film.directory).status()
    assert status["state"] == "interrupted"
    assert status["words"].startswith("broken off: 2 of 6 frames finished")


def test_footage_is_shown_frame_by_frame_with_its_times(tmp_path: Path) -> None:
    clip = tmp_path / "clip.mp4"
    levels = [20, 60, 100, 140, 180, 220]
    frames = (np.full((64, 96, 3), level, np.uint8) for level in levels)
    write_clip(clip, frames)
    film = TinyFilm(tmp_path / "film", len(levels), "film.of=footage", "film.zoom=1.25", "film.rate=null", f"image={clip}")
    live = LiveFilm(film.directory)
    for number in (0, 5, 2):
        picture = np.asarray(Image.open(io.BytesIO(live.source(number))), float)
        assert picture.shape == (64, 96, 3)
        assert abs(picture.mean() - levels[number]) < 6
    assert '"times": [0.0, 0.04, 0.08, 0.12, 0.16, 0.2]' in live.page()
    # Another clip in its place is not that of the film.
    clip.write_bytes(clip.read_bytes() + b"x")
    with pytest.raises(NoSuchPart):
        LiveFilm(film.directory).source(0)


def test_frames_whose_pictures_are_gone_come_from_their_encoded_part(tmp_path: Path) -> None:
    film = TinyFilm(tmp_path / "film")
    film.make(12)
    part = film.directory / "segments" / "ab" / "000004-000012.mkv"
    part.parent.mkdir(parents=True)
    encode_segment(part, map(frame, range(4, 12)), choose("mkv", "ffv1", 8, SHAPE, rate=RATE), 4)
    for number in range(3, 12):
        (film.directory / "frames" / f"{number:06}.png").unlink()
    with shown(film) as server:
        for number in (2, 4, 9, 11):
            status, content = get(server, f"/frames/{number}.png")
            assert status == 200
            np.testing.assert_array_equal(np.asarray(Image.open(io.BytesIO(content))), frame(number))
        assert get(server, "/frames/3.png")[0] == 404
        part.rename(tmp_path / "elsewhere.mkv")
        part.symlink_to(tmp_path / "elsewhere.mkv")
        assert get(server, "/frames/9.png")[0] == 404
