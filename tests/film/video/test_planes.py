import numpy as np
import pytest

from render.film.video.planes import video_frame

COLOURS = [
    *np.random.default_rng(0).integers(0, 256, (40, 3)), (0, 0, 0), (255, 255, 255), (255, 0, 0), (0, 255, 0), (0, 0, 255),
]  # fmt: skip


def _exact(colour, bits: int) -> tuple[float, float, float]:
    red, green, blue = (value / 255 for value in colour)
    luma = 0.2126 * red + 0.7152 * green + 0.0722 * blue
    scale = 2 ** (bits - 8)
    return (
        (16 + 219 * luma) * scale,
        (128 + 224 * (blue - luma) / 1.8556) * scale,
        (128 + 224 * (red - luma) / 1.5748) * scale,
    )


@pytest.mark.parametrize(("pixels", "bits"), [("yuv420p", 8), ("yuv420p10le", 10), ("yuv422p10le", 10)])
@pytest.mark.parametrize("wide", [False, True], ids=["uint8", "uint16"])
def test_flat_colours_become_the_nearest_levels_of_bt709(pixels, bits, wide):
    for colour in COLOURS:
        picture = np.full((70, 66, 3), colour, np.uint16 if wide else np.uint8) * (257 if wide else 1)
        frame = video_frame(picture, pixels)
        for plane, exact in zip(frame.planes, _exact(colour, bits), strict=True):
            values = np.frombuffer(memoryview(plane), np.uint8 if bits == 8 else np.uint16)
            lines = values.reshape(plane.height, -1)[:, : plane.width]
            assert np.abs(lines - exact).max() <= 0.51
