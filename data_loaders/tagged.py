"""Words with tags, as CoNLL's files have them."""

from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import numpy as np
from pydantic import Field

from data_loaders.base import encodable, row_id
from data_loaders.errors import DataError
from data_loaders.selecting import Positions, Selecting, picked
from data_loaders.tokenizing import Tokenized, TokenizedSpec
from data_loaders.types import Preview, Sample

IGNORED = -100
"""The label of a token that counts for nothing: all but a word's first piece."""
_Words = list[tuple[str, str]]


class ConllSpec(TokenizedSpec):
    """One word a line with its tag, an empty line behind each sentence."""

    kind: Literal["conll"] = "conll"
    path: Path = Field(description="The file.")
    word_column: int = Field(default=0, description="Which of a line's columns is the word.")
    tag_column: int = Field(default=-1, description="Which is the tag, in IOB2.")


class Conll(Tokenized, Selecting):
    """The samples of a ConllSpec; labels are int64 (length,), IGNORED where nothing is asked."""

    def __init__(self, spec: ConllSpec) -> None:
        super().__init__(spec)
        self.spec = spec
        self.source = str(spec.path)
        if not spec.classes:
            raise DataError(
                self.source,
                "the tags have no numbers",
                fix="List them in classes, in the order of the model's outputs.",
            )
        self._number = {tag: index for index, tag in enumerate(spec.classes)}

    def _ids(self, positions: range) -> Iterator[tuple[int, str]]:
        for index, _ in picked(self._sentences(), positions):
            yield index, row_id(index)

    def _read(self, positions: Positions) -> Iterator[Sample]:
        for index, words in picked(self._sentences(), positions):
            yield self._sample(index, words)

    def _sentences(self) -> Iterator[_Words]:
        words: _Words = []
        try:
            with self.spec.path.open(encoding="utf-8") as file:
                for number, line in enumerate(file, start=1):
                    if line.strip() and not line.startswith("-DOCSTART-"):
                        words.append(self._word(line, number))
                    elif words:
                        yield words
                        words = []
        except FileNotFoundError as error:
            raise DataError(self.source, "there is no such file") from error
        except (OSError, UnicodeDecodeError) as error:
            raise DataError(self.source, f"cannot be read: {error}") from error
        if words:
            yield words

    def _word(self, line: str, number: int) -> tuple[str, str]:
        columns = line.split()
        try:
            return columns[self.spec.word_column], columns[self.spec.tag_column]
        except IndexError:
            raise DataError(
                f"{self.source}:{number}", "has too few columns", got=repr(line.rstrip("\n"))
            ) from None

    def _sample(self, index: int, words: _Words) -> Sample:
        encoding = self._tokenizer.encode([encodable(w) for w, _ in words], is_pretokenized=True)
        label = np.full(len(encoding.ids), IGNORED, dtype=np.int64)
        before = None
        for place, word in enumerate(encoding.word_ids):
            if word is not None and word != before:
                label[place] = self._tag_number(words[word][1], index)
            before = word
        return Sample(
            id=row_id(index),
            inputs=self.arrays(encoding),
            label=label,
            preview=Preview(text=encodable(" ".join(w for w, _ in words))),
        )

    def _tag_number(self, tag: str, index: int) -> int:
        if tag not in self._number:
            raise DataError(
                f"{self.source}, sentence {index}",
                "a tag is none of the classes",
                got=repr(tag),
                expected=", ".join(self._number),
            )
        return self._number[tag]
