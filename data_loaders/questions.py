"""Questions with a text that holds the answer, as SQuAD has them."""

import json
from collections.abc import Iterator, Mapping
from typing import Any, Literal

import numpy as np
from pydantic import Field

from data_loaders.base import encodable, with_unique_ids
from data_loaders.errors import DataError
from data_loaders.files import files_from_location, suffix_of
from data_loaders.locations import Location, StoredSpec
from data_loaders.parts import Part, Placed, placed_rows
from data_loaders.rows import FileRowsSpec, parts_from_spec
from data_loaders.selecting import Positions, Selecting
from data_loaders.storage import Store, reading
from data_loaders.targets import AnswersTarget
from data_loaders.tokenizing import Tokenized, TokenizedSpec
from data_loaders.types import Preview, Sample

_SHOWN_CHARACTERS = 600


class SquadSpec(TokenizedSpec, StoredSpec):
    """SQuAD's JSON, or rows of question, context and answers."""

    kind: Literal["squad"] = "squad"
    path: Location = Field(
        description="SQuAD's JSON (1.1 or 2.0), or .jsonl or .parquet rows; the file, or of rows "
        "also a folder, a pattern or a URL."
    )


class Squad(Tokenized, Selecting):
    """The samples of a SquadSpec; a context that is too long is cut, its end cannot be answered."""

    def __init__(self, spec: SquadSpec) -> None:
        super().__init__(spec, truncation="only_second")
        self.spec = spec
        self.source = spec.path

    def _ids(self, positions: range) -> Iterator[tuple[int, str]]:
        for placed in placed_rows(self._parts(), positions, ("id",)):
            yield placed.place, _id(placed)

    def _read(self, positions: Positions) -> Iterator[Sample]:
        rows = placed_rows(self._parts(), positions)
        yield from with_unique_ids(map(self._sample, rows), self.source)

    def _parts(self) -> Iterator[Part]:
        path, storage = self.spec.path, self.spec.storage
        if suffix_of(path, (".json",)) is None:
            yield from parts_from_spec(FileRowsSpec(path=path, storage=storage))
        else:
            yield Part("", path, 0, None, lambda *_: self._rows())

    def _rows(self) -> Iterator[Mapping[str, Any]]:
        store = Store(self.spec.storage)
        (file,) = files_from_location(self.spec.path, store, (".json",)).files
        with reading(self.source):
            try:
                with file.open() as stream:
                    content = json.loads(stream.read().decode("utf-8"))
            except (ValueError, RecursionError) as error:
                raise DataError(self.source, f"cannot be read as JSON: {error}") from error
        if isinstance(content, list):
            yield from content
            return
        try:
            for article in content["data"]:
                for paragraph in article["paragraphs"]:
                    for asked in paragraph["qas"]:
                        yield {**asked, "context": paragraph["context"]}
        except (KeyError, TypeError) as error:
            raise DataError(
                self.source, f"is not as SQuAD's: {error}", expected="data, paragraphs, qas"
            ) from error

    def _sample(self, placed: Placed) -> Sample:
        row, where = placed.row, placed.where
        question, context = (row.get(name) for name in ("question", "context"))
        if not isinstance(question, str) or not isinstance(context, str):
            raise DataError(where, "has no question and context", got=", ".join(row))
        question, context = encodable(question), encodable(context)
        try:
            encoding = self._tokenizer.encode(question, context)
        except Exception as error:  # tokenizers raises plain Exception
            raise DataError(
                where,
                f"cannot be tokenized: {error}",
                fix="Raise max_length: the question alone is longer.",
            ) from error
        offsets = np.array(
            [
                pair if sequence == 1 else (-1, -1)
                for pair, sequence in zip(encoding.offsets, encoding.sequence_ids, strict=True)
            ],
            dtype=np.int64,
        ).reshape(-1, 2)
        answers = _answers(row.get("answers"), where)
        end = int(offsets[:, 1].max(initial=0))
        return Sample(
            id=_id(placed),
            inputs=self.arrays(encoding),
            label=AnswersTarget(context, answers, offsets),
            metadata={
                "answerable": "yes" if answers else "no",
                "context cut": "yes" if end < len(context.rstrip()) else "no",
            },
            preview=Preview(text=f"{question}\n{context[:_SHOWN_CHARACTERS]}"),
        )


def _id(placed: Placed) -> str:
    return encodable(str(placed.row["id"])) if "id" in placed.row else placed.id


def _answers(value: Any, where: str) -> tuple[str, ...]:
    """The accepted texts, of a list of {text: …}, of {text: […]}, of texts or of one text."""
    if value is None:
        return ()
    if isinstance(value, str):
        return (encodable(value),)
    if isinstance(value, Mapping):
        value = value.get("text", [])
    items = value if isinstance(value, list | tuple | np.ndarray) else [value]
    texts = [item.get("text") if isinstance(item, Mapping) else item for item in items]
    found = [encodable(text) for text in texts if isinstance(text, str)]
    if len(found) != len(texts):
        raise DataError(where, "an answer is no text", got=repr(value)[:100])
    return tuple(dict.fromkeys(found))
