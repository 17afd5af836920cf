import subprocess
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from render.errors import UserError
from render.film.footage.dreamed_footage import FootageLevels
from render.film.video import footage as footage_module
from render.film.video.footage import open_footage
from tests.film.video.clips import SHAPE, pictures, write_clip


def _rgb(path: Path) -> list[np.ndarray]:
    return list(open_footage(path).frames())


def test_facts_of_a_clip(tmp_path):
    clip = write_clip(tmp_path / "a.mp4", pictures(30), sound=True, tags=(1, 1, 1))
    footage = open_footage(clip)
    assert (footage.shape, len(footage.pts), footage.average_rate, footage.variable) == (SHAPE, 30, 25, False)
    assert [time * footage.time_base for time in footage.pts[:3]] == [0, Fraction(1, 25), Fraction(2, 25)]
    assert footage.duration == Fraction(30, 25)
    assert (footage.primaries, footage.transfer, footage.matrix) == ("bt709", "bt709", "bt709")
    assert (footage.sounds, footage.damaged, footage.notes) == (("aac",), 0, ())


@pytest.mark.parametrize("first", [1, 17, 39])
@pytest.mark.parametrize(
    "options", [{}, {"x264-params": "open-gop=1:keyint=10"}, {"x264-params": "intra-refresh=1:keyint=10"}]
)
def test_frames_are_the_same_wherever_reading_starts(tmp_path, first, options):
    clip = write_clip(tmp_path / "a.mp4", pictures(40), codec_options=options)
    whole = _rgb(clip)
    part = list(open_footage(clip).frames(first))
    assert len(part) == 40 - first
    assert all(np.array_equal(frame, other) for frame, other in zip(whole[first:], part, strict=True))


def test_frames_are_those_of_the_clip(tmp_path):
    clip = write_clip(
        tmp_path / "a.mp4", [np.full((*SHAPE, 3), (200, 90 + n, 40), np.uint8) for n in range(20)], tags=(1, 1, 6)
    )
    for number, frame in enumerate(_rgb(clip)):
        assert np.abs(frame.mean((0, 1)) - (200, 90 + number, 40)).max() < 3


def test_variable_times_are_kept(tmp_path):
    times = [0, 40, 90, 100, 250, 300, 333]
    footage = open_footage(write_clip(tmp_path / "a.mkv", pictures(7), pts=times))
    assert footage.variable
    assert [time * footage.time_base * 1000 for time in footage.pts] == times


@pytest.mark.parametrize("rotation", [90, 180, 270])
def test_turned_footage_comes_upright_as_ffmpeg_turns_it(tmp_path, ffprobe, rotation):
    picture = next(pictures(1))
    picture[:40, :40] = (255, 0, 0)
    clip = write_clip(tmp_path / "a.mp4", [picture] * 3, rotation=rotation, aspect=Fraction(4, 3))
    footage = open_footage(clip)
    assert footage.shape == (SHAPE if rotation == 180 else SHAPE[::-1])
    assert footage.aspect == (Fraction(4, 3) if rotation == 180 else Fraction(3, 4))
    raw = subprocess.run(
        ["ffmpeg", "-v", "error", "-i", str(clip), "-frames:v", "1", "-f", "rawvideo", "-pix_fmt", "rgb24", "-"],
        capture_output=True, check=True,
    ).stdout  # fmt: skip
    oracle = np.frombuffer(raw, np.uint8).reshape(*footage.shape, 3)
    assert np.abs(next(footage.frames()).astype(int) - oracle).mean() < 4


def test_interlaced_footage_is_deinterlaced_the_same_from_any_frame(tmp_path):
    options = {"x264-params": "interlaced=1:tff=1"}
    clip = write_clip(tmp_path / "a.mp4", pictures(20), codec_options=options)
    footage = open_footage(clip)
    assert footage.interlaced
    assert any("interlaced" in note for note in footage.notes)
    whole = list(footage.frames())
    assert len(whole) == 20
    for first in (1, 9, 19):
        assert np.array_equal(next(footage.frames(first)), whole[first])


@pytest.mark.parametrize(("transfer", "name"), [(16, "pq"), (18, "hlg")])
def test_hdr_is_tone_mapped_with_a_word(tmp_path, transfer, name):
    levels = [np.full((*SHAPE, 3), level, np.uint8) for level in (0, 60, 110, 148, 180, 255)]
    footage = open_footage(write_clip(tmp_path / "a.mp4", levels, tags=(9, transfer, 9)))
    assert footage.hdr == name
    assert "tone-mapped" in footage.notes[0]
    means = [float(frame.mean()) for frame in footage.frames()]
    assert means == sorted(means)
    assert means[0] < 3
    assert means[-1] > 240


@pytest.mark.parametrize("suffix", ["mp4", "mkv"])
def test_truncated_footage_is_dreamed_only_if_asked(tmp_path, suffix):
    options = {"movflags": "faststart"} if suffix == "mp4" else {}
    clip = write_clip(tmp_path / f"a.{suffix}", pictures(100), sound=True, options=options)
    clip.write_bytes(clip.read_bytes()[: clip.stat().st_size // 2])
    with pytest.raises(UserError, match=r"is damaged .*film\.damaged=true"):
        open_footage(clip)
    footage = open_footage(clip, damaged=True)
    frames = list(footage.frames())
    assert 10 < len(frames) == len(footage.pts) < 90


def test_transport_stream_that_ends_within_a_packet_is_dreamed_only_if_asked(tmp_path):
    clip = write_clip(tmp_path / "a.ts", pictures(50))
    assert len(open_footage(clip).pts) == 50
    half = clip.stat().st_size // 2
    clip.write_bytes(clip.read_bytes()[: half - half % 188 + 100])
    with pytest.raises(UserError, match=r"is damaged \(it ends within a packet\).*film\.damaged=true"):
        open_footage(clip)
    footage = open_footage(clip, damaged=True)
    assert 10 < len(list(footage.frames())) == len(footage.pts) < 45


def test_encrypted_footage_is_refused(tmp_path):
    key = "00112233445566778899aabbccddeeff"
    options = {"encryption_scheme": "cenc-aes-ctr", "encryption_key": key, "encryption_kid": key}
    clip = write_clip(tmp_path / "a.mp4", pictures(10), options=options)
    with pytest.raises(UserError, match="encrypted"):
        open_footage(clip)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("list.m3u8", "#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\n{clip}\n#EXT-X-ENDLIST\n"),
        ("list.mp4", "#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\n{clip}\n#EXT-X-ENDLIST\n"),
        ("concat.mp4", "ffconcat version 1.0\nfile '{clip}'\n"),
        ("session.sdp", "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\nm=video 5004 RTP/AVP 96\n"),
        ("text.mp4", "not a film\n" * 50),
        ("empty.mp4", ""),
    ],
)
def test_files_that_name_others_or_are_no_films_are_refused(tmp_path, name, content):
    clip = write_clip(tmp_path / "clip.mp4", pictures(5))
    path = tmp_path / name
    path.write_text(content.format(clip=clip))
    with pytest.raises(UserError, match="no film file that can be read"):
        open_footage(path)


def test_names_that_look_like_protocols_are_files(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_clip(tmp_path / "clip.mp4", pictures(5)).rename(tmp_path / "concat:a.mp4")
    assert len(open_footage(Path("concat:a.mp4")).pts) == 5


def test_sound_alone_and_pictures_are_no_footage(tmp_path):
    with av.open(str(tmp_path / "a.mp4"), "w") as container:
        stream = container.add_stream("aac", rate=48_000)
        samples = av.AudioFrame.from_ndarray(np.zeros((1, 4096), np.float32), "fltp", "mono")
        samples.sample_rate = 48_000
        container.mux(stream.encode(samples))
        container.mux(stream.encode(None))
    with pytest.raises(UserError, match="no video stream"):
        open_footage(tmp_path / "a.mp4")
    av.VideoFrame.from_ndarray(next(pictures(1)), "rgb24").to_image().save(tmp_path / "b.png")
    (tmp_path / "b.png").rename(tmp_path / "b.mp4")
    with pytest.raises(UserError, match=r"no film file that can be read \(it is a picture"):
        open_footage(tmp_path / "b.mp4")
    with pytest.raises(UserError, match="does not exist"):
        open_footage(tmp_path / "c.mp4")


def test_frames_beyond_the_limit_are_refused(tmp_path, monkeypatch):
    clip = write_clip(tmp_path / "a.mp4", pictures(3))
    monkeypatch.setattr(footage_module, "MAX_PIXELS", 1000)
    with pytest.raises(UserError, match="at most 1,000 px"):
        open_footage(clip)


@pytest.mark.parametrize("full_range", [False, True])
def test_ten_bits_are_read_with_their_precision(tmp_path, full_range):
    """Black and white of any range are 0 and 65535, and levels between those of 8 bits are told apart."""
    columns = 1024
    black, white = (0, 1023) if full_range else (64, 940)
    codes = np.linspace(black, white, columns).round().astype(np.uint16)
    path = tmp_path / "ten.mkv"
    with av.open(str(path), "w") as container:
        video = container.add_stream("ffv1", rate=10)
        video.width, video.height, video.pix_fmt = columns, 16, "yuv444p10le"
        video.codec_context.color_range, video.codec_context.colorspace = 1 + full_range, 1
        frame = av.VideoFrame(columns, 16, "yuv444p10le")
        for plane, row in zip(frame.planes, (codes, np.full_like(codes, 512), np.full_like(codes, 512)), strict=True):
            plane.update(np.tile(row, (16, 1)).tobytes())
        frame.color_range, frame.colorspace = 1 + full_range, 1
        container.mux([*video.encode(frame), *video.encode(None)])
    footage = open_footage(path)
    assert (footage.bits, footage.full_range) == (10, full_range)
    (picture,) = footage.frames(bits=16)
    expected = (codes.astype(float) - black) / (white - black) * 65535
    assert np.abs(picture[8] - expected[:, None]).max() <= 4
    (levels,) = FootageLevels(footage).frames()
    assert levels.dtype == np.float32
    assert (levels.min(), levels.max()) == (0, 255)
    assert len(np.unique(levels[8, :, 1])) > 800
