"""Opening of film files that anybody may have made: one local file, containers of films only, nothing else is read."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import av
from av.container import InputContainer

from render.errors import UserError

#: Containers that are read, FFmpeg's names of their demuxers. None of these opens other files or connections, unlike
#: playlists (hls, dash, concat, sdp, imf) and sequences of pictures.
DEMUXERS = (
    "mov,mp4,m4a,3gp,3g2,mj2", "matroska,webm", "avi", "mpegts", "mpeg", "flv", "ogg", "asf", "mxf", "gif", "nut", "dv",
    "m4v", "h264", "hevc", "av1", "obu", "ivf", "mpegvideo", "yuv4mpegpipe", "live_flv", "gxf", "rm", "wtv", "apng",
)  # fmt: skip


@contextmanager
def opened_input(path: Path) -> Iterator[InputContainer]:
    """Yield a local film file, opened for reading.

    Raises:
        UserError: It is missing, no regular file, or not in one of the containers.
    """
    if not path.is_file():
        problem = "is no file" if path.exists() else "does not exist"
        raise UserError(f"{path} {problem}: name a film file")
    options = {"protocol_whitelist": "file", "format_whitelist": ",".join(DEMUXERS)}
    try:
        # The prefix keeps a name such as `concat:a|b` from being taken for a protocol.
        container = av.open(f"file:{path.resolve()}", "r", options=options)
    except PermissionError as error:
        raise UserError(f"{path} cannot be read: permission denied") from error
    except (av.FFmpegError, ValueError) as error:
        raise UserError(
            f"{path} is no film file that can be read ({_reason(error)}): use MP4, MOV, MKV, WebM, AVI, MPEG or the like"
        ) from error
    with container:
        yield container


def _reason(error: Exception) -> str:
    # FFmpeg refuses containers outside of the whitelist by these words.
    reason = getattr(error, "strerror", None) or str(error)
    return "it is a picture, a playlist or of another kind" if reason == "Invalid argument" else reason
