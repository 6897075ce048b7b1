"""Texts are tokenized once, and what is kept of them changes nothing."""

import numpy as np
import pytest
from tokenizers import Tokenizer, models, pre_tokenizers

from data_loaders import token_store
from data_loaders.rows import PythonRowsSpec
from data_loaders.text import Text, TextSpec

WORDS = ["[PAD]", "[UNK]", "red", "fish", "blue", "dog", "a"]
TEXTS = ["red fish", "", "a dog a fish", "blue “fish” swims"]
TOKENS = [[2, 3], [], [6, 5, 6, 3], [4, 1, 3, 1, 1]]
texts = list(TEXTS)


def rows():
    """The rows that a config's entry gives."""
    for text in texts:
        yield {"text": text}


class Counted:
    """A tokenizer that notes what it is asked to encode."""

    def __init__(self, tokenizer):
        self._tokenizer = tokenizer
        self.seen = []

    def encode(self, text, pair):
        self.seen.append(text)
        return self._tokenizer.encode(text, pair)


@pytest.fixture
def opened(tmp_path, monkeypatch):
    made = Tokenizer(models.WordLevel({w: i for i, w in enumerate(WORDS)}, unk_token="[UNK]"))
    made.pre_tokenizer = pre_tokenizers.Whitespace()
    made.save(str(tmp_path / "tokenizer.json"))
    monkeypatch.setitem(globals(), "texts", list(TEXTS))

    def open_text(**more):
        spec = TextSpec(
            rows=PythonRowsSpec(entry=f"{__name__}:rows"),
            tokenizer=tmp_path / "tokenizer.json",
            **more,
        )
        text = Text(spec)
        text._tokenizer = Counted(text._tokenizer)
        return text

    return open_text


def ids(text):
    return [sample.inputs["input_ids"].tolist() for sample in text]


def test_a_second_reading_needs_no_tokenizer_and_gives_the_same(opened):
    text = opened()
    first, second = list(text), list(text)
    assert [s.inputs["input_ids"].tolist() for s in first] == TOKENS
    assert text._tokenizer.seen == TEXTS
    assert [s.digest() for s in first] == [s.digest() for s in second]
    assert {a.dtype for s in second for a in s.inputs.values()} == {np.dtype(np.int64)}
    assert [s.inputs["attention_mask"].tolist() for s in second] == [[1] * len(t) for t in TOKENS]


def test_readings_may_break_off_and_run_side_by_side(opened):
    text = opened(skip=1)
    assert next(iter(text)).inputs["input_ids"].tolist() == TOKENS[1]
    pairs = zip(ids(text), ids(text), strict=True)
    assert list(pairs) == [(t, t) for t in TOKENS[1:]]
    assert text._tokenizer.seen == TEXTS[1:]


def test_a_row_with_another_text_is_tokenized_anew(opened):
    text = opened()
    ids(text)
    texts[1], texts[2] = "blue dog", texts[1]
    assert ids(text) == [TOKENS[0], [4, 5], [], TOKENS[3]]


def test_what_does_not_fit_is_tokenized_each_time(opened, monkeypatch):
    monkeypatch.setattr(token_store, "_BYTES_MAX", 4 * 3 * 2)
    text = opened()
    assert ids(text) == ids(text) == TOKENS
    assert text._tokenizer.seen == [*TEXTS, *TEXTS[2:]]
