"""Made-up images: digits, photographs, and a folder of pictures."""

import numpy as np
import pytest

from efface.running.extras import import_pillow


@pytest.fixture
def digits():
    draw = np.random.default_rng(0)
    sizes = {"train": 20, "t10k": 10}
    return {
        part: (draw.integers(0, 256, (n, 28, 28), np.uint8), np.arange(n, dtype=np.uint8) % 10)
        for part, n in sizes.items()
    }


@pytest.fixture
def photographs():
    draw = np.random.default_rng(1)
    return draw.integers(0, 256, (20, 32, 32, 3), np.uint8), [i % 10 for i in range(20)]


@pytest.fixture
def pictures(tmp_path):
    """Two classes; every image is one colour, so that resizing and cutting change nothing but the size."""
    image = import_pillow()
    colours = {}
    for part, count in (("train", 3), ("test", 2)):
        for label, name in enumerate(("cat", "dog")):
            folder = tmp_path / part / name
            folder.mkdir(parents=True)
            for i in range(count):
                colour = (10 * i, 100 * label, 200 if part == "test" else 50)
                image.new("RGB", (20 + 7 * i, 31), colour).save(folder / f"{i}.png")
                colours.setdefault(part, []).append(colour)
    return tmp_path, colours
