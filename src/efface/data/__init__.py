"""Where samples come from, and a data set seen under a request."""

from __future__ import annotations

from efface.data.augment import Augment
from efface.data.counts import Counts
from efface.data.data import Data
from efface.data.epoch import Epoch
from efface.data.part import Part
from efface.data.samples import ArraySamples, DatasetSamples, Samples
from efface.data.sources import SOURCES, load
from efface.data.split import Split

__all__ = [
    "SOURCES",
    "ArraySamples",
    "Augment",
    "Counts",
    "Data",
    "DatasetSamples",
    "Epoch",
    "Part",
    "Samples",
    "Split",
    "load",
]
