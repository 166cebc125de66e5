"""Images in files or in memory as samples: prepared as a model wants them, kept decoded or read when asked for."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from efface.data.samples import ArraySamples, DatasetSamples, Samples
from efface.data.sources.normalisation import Normalisation
from efface.errors import InputError
from efface.running.extras import import_pillow, import_torchvision
from efface.words import counted

__all__ = ["LARGEST", "Files", "PictureSamples", "Pictures", "Preparation", "Read", "inside", "read_pictures"]

LARGEST = 89_478_485
"""Pixels that one image may have: Pillow's own bound, above which it warns of a decompression bomb."""

SHOWN = 20
"""Bad images that an error lists."""


@dataclass(frozen=True)
class Preparation:
    """How an image becomes an input: resized, its centre cut out, normalised.

    Attributes:
        size: Height and width of the input.
        resize: Shorter side before cutting.
        normalisation: Of pixels in [0, 1].
        interpolation: `bilinear` or `bicubic`.
        squash: Resize both sides to `resize` alike, whatever the image's shape.
    """

    size: int
    resize: int
    normalisation: Normalisation
    interpolation: str = "bilinear"
    squash: bool = False

    @classmethod
    def of(
        cls,
        size: int = 224,
        resize: int | None = None,
        normalise: bool = True,
        mean: Sequence[float] | None = None,
        std: Sequence[float] | None = None,
        interpolation: str = "bilinear",
        squash: bool = False,
    ) -> Preparation:
        """Check what was asked for; without `mean` and `std`, ImageNet's are used.

        Raises:
            InputError: Sizes that make no sense, or another interpolation than the two.
        """
        shorter = size if resize is None else resize
        if size < 1 or shorter < size:
            raise InputError(f"size {size} and resize {shorter}; needed: size at least 1 and resize at least size")
        if interpolation not in ("bilinear", "bicubic"):
            raise InputError(f"interpolation {interpolation!r}; allowed: bilinear, bicubic")
        normalisation = Normalisation.of("image_folder", normalise, mean, std)
        return cls(size, shorter, normalisation, interpolation, squash)

    @property
    def options(self) -> dict[str, Any]:
        """The arguments that would give it again, for the record."""
        own = {"size": self.size, "resize": self.resize, "interpolation": self.interpolation, "squash": self.squash}
        return own | self.normalisation.options

    def cut(self) -> Callable[[Any], Tensor]:
        """Return what makes uint8 pixels (3, size, size) of an image."""
        transforms = import_torchvision().transforms
        side: Any = (self.resize, self.resize) if self.squash else self.resize
        mode = transforms.InterpolationMode(self.interpolation)
        resized = transforms.Resize(side, interpolation=mode)
        made: Callable[[Any], Tensor] = transforms.Compose(
            [resized, transforms.CenterCrop(self.size), transforms.PILToTensor()]
        )
        return made


class Source(Protocol):
    """Where the bytes of images lie."""

    def __len__(self) -> int: ...

    def name(self, index: int) -> str:
        """What an image is called in errors and as an id."""

    def open(self, index: int) -> Any:
        """Return what Pillow opens: a path or bytes in memory."""

    def weight(self, index: int) -> int:
        """Return the bytes of one image, for a fingerprint without reading them."""


@dataclass(frozen=True)
class Files:
    """Images in files.

    Attributes:
        paths: One per image.
        root: What their names start below.
    """

    paths: tuple[Path, ...]
    root: Path

    def __len__(self) -> int:
        return len(self.paths)

    def name(self, index: int) -> str:
        """Return the path below the root."""
        return self.paths[index].relative_to(self.root).as_posix()

    def open(self, index: int) -> Path:
        """Return the path."""
        return self.paths[index]

    def weight(self, index: int) -> int:
        """Return the file's size in bytes."""
        return self.paths[index].stat().st_size


class Pictures(Dataset[tuple[Tensor, int]]):
    """Images with labels: pixels (3, size, size) uint8 and a class number.

    Args:
        source: Where they lie.
        labels: Class number of each.
        preparation: How they are resized and cut.
        chosen: Positions in the source that are used; all by default.
    """

    def __init__(
        self, source: Source, labels: Sequence[int], preparation: Preparation, chosen: Sequence[int] | None = None
    ) -> None:
        self.source = source
        self.chosen = list(range(len(source)) if chosen is None else chosen)
        self.targets = [int(labels[i]) for i in self.chosen]
        self._labels = labels
        self._preparation = preparation
        self._cut = preparation.cut()

    def __len__(self) -> int:
        return len(self.chosen)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        return self._cut(decoded(self.source, self.chosen[index])), self.targets[index]

    @property
    def names(self) -> list[str]:
        """What each image is called."""
        return [self.source.name(i) for i in self.chosen]

    def without(self, bad: Iterable[int]) -> Pictures:
        """Return the same without some positions of this."""
        left_out = set(bad)
        kept = [i for k, i in enumerate(self.chosen) if k not in left_out]
        return Pictures(self.source, self._labels, self._preparation, kept)


def decoded(source: Source, index: int) -> Any:
    """Return one image as RGB.

    Raises:
        InputError: It is gigantic, corrupt or no image.
    """
    image = _opened(source, index)
    try:
        with image:
            return image.convert("RGB")
    except _UNREADABLE as error:
        raise _refusal(source.name(index), error) from error


def _opened(source: Source, index: int) -> Any:
    """Read the header of one image and refuse too many pixels, before any of them is decoded."""
    pillow = import_pillow()
    name = source.name(index)
    content = source.open(index)
    try:
        image = pillow.open(io.BytesIO(content) if isinstance(content, bytes) else content)
    except (pillow.DecompressionBombError, pillow.DecompressionBombWarning) as error:
        raise InputError(f"{name} is gigantic ({error}); replace or remove it") from error
    except _UNREADABLE as error:
        raise _refusal(name, error) from error
    width, height = image.size
    if width * height > LARGEST:
        image.close()
        raise InputError(f"{name} is gigantic ({width} x {height} pixels; allowed: {LARGEST}); replace or remove it")
    return image


# What Pillow raises on bytes that are no image, or one that breaks off.
_UNREADABLE = (
    OSError,
    SyntaxError,
    ValueError,
    TypeError,
    LookupError,
    AttributeError,
    ArithmeticError,
    RuntimeError,
    EOFError,
    MemoryError,
)


def _refusal(name: str, error: Exception) -> InputError:
    first = (str(error) or type(error).__name__).splitlines()[0]
    return InputError(f"{name} is corrupt or no image ({first}); replace or remove it")


class Read(NamedTuple):
    """A part that was read.

    Attributes:
        samples: What networks see.
        names: What each image is called.
        kept: Positions of these among all that were asked for.
        skipped: Names of images that cannot be used.
    """

    samples: Samples
    names: list[str]
    kept: np.ndarray
    skipped: list[str]


def read_pictures(
    parts: Sequence[Pictures], preparation: Preparation, *, memory_gib: float, workers: int, skip_bad: bool
) -> list[Read]:
    """Read images, as training and test set.

    If all of them together need at most `memory_gib` as uint8, they are decoded once and kept; otherwise headers are
    looked at now, and pixels read when they are asked for (with `skip_bad`, every image is decoded once to look).

    Args:
        parts: Training and test images.
        preparation: How they become inputs.
        memory_gib: Budget for keeping decoded images, in GiB.
        workers: DataLoader worker processes for reading later.
        skip_bad: Leave out images that cannot be used, in place of refusing all.

    Raises:
        InputError: Images are gigantic, corrupt or none, and may not be left out: all are listed, the first 20 by name;
            or no image of a part is left.
    """
    keep = sum(map(len, parts)) * 3 * preparation.size**2 <= memory_gib * 2**30
    looked = [_look(part, preparation, keep, deep=skip_bad) for part in parts]
    bad = [text for _, failures in looked for text in failures.values()]
    if bad and not skip_bad:
        more = f"; and {len(bad) - SHOWN} more" if len(bad) > SHOWN else ""
        shown = "; ".join(text.removesuffix("; replace or remove it") for text in bad[:SHOWN])
        raise InputError(
            f"{counted(len(bad), 'image')} cannot be used: {shown}{more}. Replace or remove what is named, or "
            "go on without: "
            "--skip-bad (skip_bad=True)"
        )
    found = []
    for part, (pixels, failures) in zip(parts, looked, strict=True):
        if len(failures) == len(part):
            raise InputError(f"none of the {len(part)} images can be used, the first: {next(iter(failures.values()))}")
        kept = np.array([k for k in range(len(part)) if k not in failures], dtype=np.int64)
        used = part.without(failures) if failures else part
        samples = (
            PictureSamples(used, preparation, workers)
            if pixels is None
            else ArraySamples(
                pixels if len(kept) == len(part) else pixels[torch.from_numpy(kept)],
                used.targets,
                preparation.normalisation.mean,
                preparation.normalisation.std,
            )
        )
        names = part.names
        found.append(Read(samples, used.names, kept, [names[k] for k in failures]))
    return found


def _look(part: Pictures, preparation: Preparation, keep: bool, deep: bool) -> tuple[Tensor | None, dict[int, str]]:
    """Decode all images, or read their headers; return the pixels, if they are kept, and what is wrong by position."""
    size = preparation.size
    pixels = torch.empty((len(part), 3, size, size), dtype=torch.uint8) if keep else None

    def look(position: int) -> str | None:
        try:
            if pixels is not None:
                pixels[position] = part[position][0]
            elif deep:
                decoded(part.source, part.chosen[position]).close()
            else:
                _opened(part.source, part.chosen[position]).close()
        except InputError as error:
            return str(error)
        return None

    with ThreadPoolExecutor() as pool:  # Pillow decodes outside the interpreter lock
        said = list(pool.map(look, range(len(part))))
    return pixels, {k: text for k, text in enumerate(said) if text is not None}


class _Normalised(Dataset[tuple[Tensor, int]]):
    """Pictures as normalised float tensors."""

    def __init__(self, pictures: Pictures, normalisation: Normalisation) -> None:
        self.pictures = pictures
        self.mean, self.std = (
            torch.tensor(default if given is None else given).reshape(-1, 1, 1)
            for given, default in ((normalisation.mean, (0.0,)), (normalisation.std, (1.0,)))
        )

    def __len__(self) -> int:
        return len(self.pictures)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        pixels, label = self.pictures[index]
        return (pixels / 255 - self.mean) / self.std, label


class PictureSamples(DatasetSamples):
    """Images that are decoded when they are asked for.

    Args:
        pictures: The images.
        preparation: How they become inputs.
        workers: DataLoader worker processes.
    """

    def __init__(self, pictures: Pictures, preparation: Preparation, workers: int) -> None:
        super().__init__(_Normalised(pictures, preparation.normalisation), pictures.targets, workers, "images")
        self.pictures = pictures
        self.preparation = preparation

    @property
    def fingerprint(self) -> str:
        """SHA-256 of every image's name, its size in bytes and its class, and of how inputs are made of them."""
        if not hasattr(self, "_fingerprint"):
            digest = hashlib.sha256(f"{self.input_shape} {self.preparation}".encode())
            source = self.pictures.source
            for index, label in zip(self.pictures.chosen, self.pictures.targets, strict=True):
                digest.update(f"{source.name(index)} {source.weight(index)} {label}\n".encode())
            self._fingerprint = digest.hexdigest()
        return self._fingerprint


def inside(path: Path, home: Path) -> bool:
    """Say whether a path lies below a folder when `..` and all links are followed.

    Args:
        path: What may lead out of it.
        home: The folder, resolved; it may have been a link itself.
    """
    try:
        return path.resolve().is_relative_to(home)
    except (OSError, RuntimeError, ValueError):  # a loop of links, a name that no file can have
        return False
