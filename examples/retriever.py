"""Which document does this opening belong to? MiniLM's sentence embeddings on 20 Newsgroups.

A query is the first twelve words of a document, and what is searched are documents without their
openings (the inverse cloze task: K. Lee et al., Latent Retrieval for Weakly Supervised Open Domain
Question Answering, ACL 2019). One document is right; others of its thread are not, however near.
"""

from collections.abc import Iterator
from itertools import islice
from pathlib import Path

from examples import minilm, newsgroups
from examples.packages import kept

Row = dict[str, str]

_OPENING_WORDS = 12
_WORDS_MIN = 60
_CALIBRATION_DOCUMENTS_A_QUERY = 4


def model() -> Path:
    """The encoder's ONNX file, written once; its output `embedding` has length 1."""
    minilm.tokenizer()
    return kept("retriever", minilm.encoder().SerializeToString(deterministic=True))


def documents(count: int) -> Iterator[Row]:
    """The first `count` validation documents of at least 60 words, without their openings."""
    for row in _long_rows("validation", count):
        yield {"id": row["id"], "text": _parts(row)[1]}


def queries(count: int) -> Iterator[Row]:
    """The openings of the first `count` of these documents, under the documents' names."""
    for row in _long_rows("validation", count):
        yield {"id": row["id"], "text": _parts(row)[0]}


def relevance(count: int) -> Iterator[Row]:
    """Query and document: each opening belongs to one."""
    for row in _long_rows("validation", count):
        yield {"query": row["id"], "document": row["id"]}


def calibration() -> Iterator[Row]:
    """What the encoder will be asked: documents without openings, and an opening for every four."""
    for index, row in enumerate(_long_rows("calibration")):
        opening, rest = _parts(row)
        yield {"id": row["id"], "text": rest}
        if index % _CALIBRATION_DOCUMENTS_A_QUERY == 0:
            yield {"id": f"{row['id']}-opening", "text": opening}


def _long_rows(split: newsgroups.SplitName, count: int | None = None) -> Iterator[Row]:
    rows = newsgroups.rows(split)
    return islice((row for row in rows if len(row["text"].split()) >= _WORDS_MIN), count)


def _parts(row: Row) -> tuple[str, str]:
    words = row["text"].split()
    return " ".join(words[:_OPENING_WORDS]), " ".join(words[_OPENING_WORDS:])
