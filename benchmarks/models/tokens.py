"""Texts as BERT's three inputs, padded to one length."""

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

from examples import minilm


def encoded(texts: list[str], length: int) -> dict[str, NDArray[np.generic]]:
    """input_ids, attention_mask and token_type_ids, int64 (texts, length)."""
    reader = Tokenizer.from_file(str(minilm.tokenizer()))
    reader.enable_truncation(length)
    reader.enable_padding(length=length)
    encodings = reader.encode_batch(texts)
    ids = np.array([e.ids for e in encodings], dtype=np.int64)
    mask = np.array([e.attention_mask for e in encodings], dtype=np.int64)
    return {"input_ids": ids, "attention_mask": mask, "token_type_ids": np.zeros_like(ids)}
