from fractions import Fraction
from itertools import accumulate
from pathlib import Path

import av
import numpy as np
import pytest

from render.errors import UserError
from render.film.video.encoding import encode_segment
from render.film.video.film_formats import VideoSettings, choose, codecs_here
from render.film.video.segment_joining import Sound, Timing, constant, join_segments
from tests.film.footage import clips
from tests.film.video.clips import SHAPE, pictures, write_clip

NTSC = Fraction(30_000, 1001)
FILMS = [
    ("mp4", "h264", 8), ("mp4", "h265", 8), ("mp4", "av1", 10), ("webm", "vp9", 8),
    ("mov", "prores", 10), ("mkv", "ffv1", 16),
]  # fmt: skip
VARIABLE = list(accumulate([0, *(1000 + 733 * (number % 9) for number in range(49))]))


def _segments(directory: Path, settings: VideoSettings, count: int = 50, length: int = 20) -> list[Path]:
    frames = list(pictures(count, settings.bits))
    paths = []
    for first in range(0, count, length):
        paths.append(directory / f"{first:04d}.mkv")
        encode_segment(paths[-1], frames[first : first + length], settings, first)
    return paths


def _settings(form: str, codec: str, bits: int, *, variable: bool = False) -> VideoSettings:
    if bits not in codecs_here().get(codec, ()):
        pytest.skip(f"this FFmpeg has no {codec} of {bits} bits")
    return choose(form, codec, bits, SHAPE, rate=NTSC, variable=variable)


@pytest.mark.parametrize(("form", "codec", "bits"), FILMS)
@pytest.mark.parametrize("variable", [False, True], ids=["constant", "variable"])
def test_independent_reader_confirms_frames_times_and_tags(tmp_path, ffprobe, form, codec, bits, variable):
    settings = _settings(form, codec, bits, variable=variable)
    timing = Timing(VARIABLE, Fraction(1, 90_000), 3000) if variable else constant(NTSC, 50)
    film = tmp_path / f"film.{form}"
    join_segments(film, _segments(tmp_path, settings), settings, timing)
    stream = ffprobe("-show_streams", film)["streams"][0]
    tick = Fraction(stream["time_base"])
    times = [Fraction(frame["pts_time"]) for frame in ffprobe("-show_entries", "frame=pts_time", film)["frames"]]
    assert len(times) == 50
    # ffprobe prints microseconds.
    bound = tick / 2 + Fraction(1, 1_000_000)
    assert all(abs(time - pts * timing.time_base) <= bound for time, pts in zip(times, timing.pts, strict=True))
    duration = Fraction(ffprobe("-show_format", film)["format"]["duration"])
    assert abs(duration - timing.end) <= Fraction(3, 1000)
    is_rgb = codec == "ffv1"
    assert stream["color_primaries"] == stream["color_transfer"] == "bt709"
    assert (stream["color_space"], stream["color_range"]) == (("gbr", "pc") if is_rgb else ("bt709", "tv"))


@pytest.mark.parametrize("codec", ["h264", "h265", "av1", "vp9"])
def test_same_frames_make_the_same_bytes(tmp_path, codec):
    settings = _settings("mkv", codec, 8)
    for name in ("one", "other"):
        (tmp_path / name).mkdir()
        join_segments(tmp_path / f"{name}.mkv", _segments(tmp_path / name, settings, 24, 12), settings, constant(NTSC, 24))
    assert (tmp_path / "one.mkv").read_bytes() == (tmp_path / "other.mkv").read_bytes()


@pytest.mark.parametrize("bits", [8, 16])
def test_ffv1_keeps_every_pixel(tmp_path, bits):
    settings = choose("mkv", "ffv1", bits, (97, 131))
    frames = list(pictures(3, bits, (97, 131)))
    encode_segment(tmp_path / "0.mkv", frames, settings)
    with av.open(str(tmp_path / "0.mkv")) as container:
        decoded = [frame.to_ndarray(format="rgb24" if bits == 8 else "rgb48le") for frame in container.decode(video=0)]
    assert all(np.array_equal(frame, back) for frame, back in zip(frames, decoded, strict=True))


def test_index_comes_before_pictures_in_mp4(tmp_path):
    settings = choose("mp4", "h264", 8, SHAPE)
    join_segments(tmp_path / "a.mp4", _segments(tmp_path, settings, 4, 4), settings, constant(settings.rate, 4))
    content = (tmp_path / "a.mp4").read_bytes()
    assert content.index(b"moov") < content.index(b"mdat")


@pytest.mark.parametrize("form", ["mp4", "mkv"])
def test_sound_is_copied_bit_for_bit_and_ends_with_the_film(tmp_path, form):
    source = write_clip(tmp_path / "source.mp4", pictures(100), sound=True)
    settings = choose(form, "h264", 8, SHAPE, rate=Fraction(25))
    film = tmp_path / f"film.{form}"
    join_segments(film, _segments(tmp_path, settings), settings, constant(settings.rate, 50), Sound(source))
    copied, original = _sound(film), _sound(source)
    original = [(time, data) for time, data in original if time < 2 and (form == "mp4" or time >= 0)]
    assert [data for _, data in copied] == [data for _, data in original]
    assert all(abs(time - other) <= Fraction(1, 2000) for (time, _), (other, _) in zip(copied, original, strict=True))


def _sound(path: Path) -> list[tuple[Fraction, bytes]]:
    with av.open(str(path)) as container:
        return [(p.pts * p.time_base, bytes(p)) for p in container.demux(audio=0) if p.size]


def test_sound_that_a_format_cannot_hold_is_refused_by_name(tmp_path):
    source = write_clip(tmp_path / "source.mp4", pictures(25), sound=True)
    settings = _settings("webm", "vp9", 8)
    with pytest.raises(UserError, match=r"webm cannot hold .*film\.format=mkv or film\.sound=false"):
        join_segments(tmp_path / "f.webm", _segments(tmp_path, settings, 4, 4), settings, constant(NTSC, 4), Sound(source))
    assert not (tmp_path / "f.webm").exists()
    assert not list(tmp_path.glob(".render-*"))


def test_users_file_is_kept_unless_overwrite(tmp_path):
    settings = choose("mp4", "h264", 8, SHAPE)
    segments, film = _segments(tmp_path, settings, 4, 4), tmp_path / "film.mp4"
    film.write_text("mine")
    with pytest.raises(UserError, match="exists: set overwrite=true"):
        join_segments(film, segments, settings, constant(settings.rate, 4))
    assert film.read_text() == "mine"
    join_segments(film, segments, settings, constant(settings.rate, 4), overwrite=True)
    assert film.stat().st_size > 100


def test_damaged_missing_and_foreign_segments_are_refused(tmp_path):
    settings = choose("mp4", "h264", 8, SHAPE)
    segments = _segments(tmp_path, settings, 24, 12)
    with pytest.raises(UserError, match="hold 12 frames instead of 24"):
        join_segments(tmp_path / "f.mp4", segments[:1], settings, constant(settings.rate, 24))
    encode_segment(segments[1], pictures(12, 8, (64, 64)), choose("mp4", "h264", 8, (64, 64)))
    with pytest.raises(UserError, match="encoded with other settings"):
        join_segments(tmp_path / "f.mp4", segments, settings, constant(settings.rate, 24))
    segments[1].write_bytes(b"nothing")
    with pytest.raises(UserError, match=r"0012\.mkv"):
        join_segments(tmp_path / "f.mp4", segments, settings, constant(settings.rate, 24))
    assert not (tmp_path / "f.mp4").exists()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("avi", None, 8, SHAPE), "film.format=avi is unknown: use mp4"),
        (("mp4", "ffv1", 8, SHAPE), "use h264, h265 or av1"),
        (("webm", "vp9", 10, SHAPE), "or film.codec=av1"),
        (("mp4", None, 8, (97, 128)), "needs even sides"),
        (("mp4", None, 8, (96, 20_000)), "film.codec=ffv1"),
        (("mp4", None, 8, (8, 8)), "too small"),
    ],
)
def test_impossible_files_are_refused_with_a_remedy(words, message):
    with pytest.raises(UserError, match=message):
        choose(*words)


@pytest.mark.parametrize("codec", ["h264", "h265"])
def test_frames_with_detail_that_moves_make_the_same_bytes_every_time(tmp_path, codec):
    """Unlike gradients, such frames have an encoder weigh what later ones take from them."""
    clip = [*clips.pan(clips.photo("astronaut"), (140, 160), 24, (1.0, 2.5))]
    settings = choose("mp4", codec, 8, (140, 160), rate=Fraction(24))
    made = set()
    for number in range(4):
        path = tmp_path / f"{number}.mkv"
        encode_segment(path, clip, settings)
        made.add(path.read_bytes())
    assert len(made) == 1
