"""Images that cannot be used: all are listed, and left out only on request."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from efface.data import load
from efface.data.sources import images
from efface.errors import InputError
from tests.data.sources.layouts import everything

LAZY = pytest.mark.parametrize("memory_gib", [1.0, 0.0], ids=["kept", "lazy"])


def broken(root: Path) -> list[str]:
    """Three images, each with a trouble of its own, in both parts."""
    names = ["train/cat/1.png", "train/dog/0.png", "test/dog/1.png"]
    (root / names[0]).write_bytes(b"no image at all")
    (root / names[1]).write_bytes(b"")
    (root / names[2]).write_bytes((root / names[2]).read_bytes()[:20])
    return names


@LAZY
def test_all_bad_images_are_listed_at_once(pictures: Any, memory_gib: float) -> None:
    root, _ = pictures
    names = broken(root)
    with pytest.raises(InputError, match="3 images cannot be used") as caught:
        load("image_folder", root, size=8, memory_gib=memory_gib)
    assert all(name in str(caught.value) for name in names)
    assert "--skip-bad" in str(caught.value)


@LAZY
def test_bad_images_are_left_out_on_request_and_counted(pictures: Any, memory_gib: float) -> None:
    root, colours = pictures
    names = broken(root)
    data = load("image_folder", root, size=8, memory_gib=memory_gib, normalise=False, skip_bad=True)
    assert list(data.skipped) == names
    assert data.ids is not None
    assert data.ids.tolist() == ["train/cat/0.png", "train/cat/2.png", "train/dog/1.png", "train/dog/2.png"]
    expected = torch.tensor([colours["train"][i] for i in (0, 2, 4, 5)])[:, :, None, None].expand(-1, 3, 8, 8) / 255
    torch.testing.assert_close(everything(data.train), expected)
    assert data.train.labels.tolist() == [0, 0, 1, 1]
    assert data.options["skip_bad"] is True


@LAZY
def test_a_gigantic_image_is_refused_by_its_header(
    pictures: Any, memory_gib: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    root, _ = pictures
    monkeypatch.setattr(images, "LARGEST", 20 * 31)
    with pytest.raises(InputError, match=r"6 images cannot be used: train/cat/1\.png is gigantic \(27 x 31 pixels"):
        load("image_folder", root, size=8, memory_gib=memory_gib)


def test_a_part_of_which_nothing_is_left_is_refused(pictures: Any) -> None:
    root, _ = pictures
    for file in (root / "test").rglob("*.png"):
        file.write_bytes(b"x")
    with pytest.raises(InputError, match="none of the 4 images can be used"):
        load("image_folder", root, size=8, skip_bad=True)


def test_links_out_of_the_root_are_refused_and_may_be_vouched_for(pictures: Any, tmp_path_factory: Any) -> None:
    root, _ = pictures
    elsewhere = tmp_path_factory.mktemp("elsewhere") / "secret.png"
    (root / "train" / "cat" / "1.png").rename(elsewhere)
    (root / "train" / "cat" / "1.png").symlink_to(elsewhere)
    (root / "train" / "cat" / "3.png").symlink_to(root / "train" / "cat" / "0.png")  # within the root: fine
    with pytest.raises(InputError, match=r"1 image is a link that leads out of that folder: train/cat/1\.png"):
        load("image_folder", root, size=8)
    assert len(load("image_folder", root, size=8, follow_links=True).train) == 7


def test_both_sides_are_squashed_on_request(pictures: Any) -> None:
    root, _ = pictures
    pixels = np.zeros((40, 80, 3), np.uint8)
    pixels[:, :20] = 255  # a quarter of the width
    images.import_pillow().fromarray(pixels).save(root / "train" / "cat" / "0.png")
    squashed, cut = (
        everything(load("image_folder", root, size=8, squash=s, normalise=False).train)[0] for s in (True, False)
    )
    assert float(squashed.mean()) == pytest.approx(0.25, abs=0.05)
    assert float(cut.mean()) == pytest.approx(0, abs=0.05)
    with pytest.raises(InputError, match="interpolation 'nearest'; allowed: bilinear, bicubic"):
        load("image_folder", root, size=8, interpolation="nearest")
