from tests.film.video.clips import ffprobe

__all__ = ["ffprobe"]
