"""Tokenizers, and the arrays that models take of them."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

import numpy as np
from pydantic import Field
from tokenizers import BertWordPieceTokenizer, Tokenizer

from data_loaders.base import LoaderSpec
from data_loaders.errors import DataError
from data_loaders.types import Array

_ENCODING_FIELDS = {
    "input_ids": "ids",
    "attention_mask": "attention_mask",
    "token_type_ids": "type_ids",
}


class TokenizedSpec(LoaderSpec):
    """How text becomes a model's inputs."""

    tokenizer: Path = Field(description="tokenizer.json, vocab.txt, or a directory with one.")
    max_length: int = Field(
        default=128, ge=1, le=2**24, description="Longest sequence kept, in tokens."
    )
    inputs: tuple[Literal["input_ids", "attention_mask", "token_type_ids"], ...] = Field(
        default=("input_ids", "attention_mask", "token_type_ids"),
        min_length=1,
        description="Arrays to make: the names of the model's inputs.",
    )


class Tokenized:
    """What all loaders of text share.

    Args:
        spec: the tokenizer, and which arrays.
        truncation: which of two texts is cut where they are too long together.
    """

    def __init__(
        self,
        spec: TokenizedSpec,
        truncation: Literal["longest_first", "only_second"] = "longest_first",
    ) -> None:
        self.class_names = spec.classes
        self._inputs = spec.inputs
        self._tokenizer = open_tokenizer(spec.tokenizer)
        self._tokenizer.no_padding()
        self._tokenizer.enable_truncation(spec.max_length, strategy=truncation)

    @property
    def pad_values(self) -> Mapping[str, int]:
        """What to fill padded positions with, by input name."""
        for token in ("[PAD]", "<pad>", "<|pad|>"):
            if (number := self._tokenizer.token_to_id(token)) is not None:
                return {"input_ids": int(number)}
        return {}

    @property
    def vocabulary_size(self) -> int:
        """Number of token ids: every id in a sample is below it."""
        return int(self._tokenizer.get_vocab_size(with_added_tokens=True))

    def arrays(self, encoding: object) -> dict[str, Array]:
        """The model's inputs, int64 (length,), of one encoding."""
        return {
            name: np.asarray(getattr(encoding, _ENCODING_FIELDS[name]), dtype=np.int64)
            for name in self._inputs
        }


def open_tokenizer(path: Path) -> Tokenizer:
    """A tokenizer's own file, or a WordPiece vocabulary.

    Raises:
        DataError: if it is not there, or is none.
    """
    candidates = [path / "tokenizer.json", path / "vocab.txt"] if path.is_dir() else [path]
    found = next((p for p in candidates if p.is_file()), None)
    if found is None:
        raise DataError(str(path), "there is no tokenizer", expected="tokenizer.json or vocab.txt")
    try:
        if found.suffix == ".txt":
            return _wordpiece(found)
        return Tokenizer.from_file(str(found))
    except Exception as error:  # tokenizers raises plain Exception
        raise DataError(str(found), f"is no tokenizer: {error}") from error


def _wordpiece(vocabulary: Path) -> Tokenizer:
    settings = vocabulary.with_name("tokenizer_config.json")
    options = json.loads(settings.read_text(encoding="utf-8")) if settings.is_file() else {}
    lower = bool(options.get("do_lower_case", True))
    wordpiece = BertWordPieceTokenizer(str(vocabulary), lowercase=lower)
    return Tokenizer.from_str(wordpiece.to_str())
