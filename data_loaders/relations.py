"""Texts that are judged with each other: pairs, and queries with a corpus."""

from collections.abc import Iterator
from itertools import chain
from typing import Literal

from pydantic import Field

from data_loaders.base import encodable, with_unique_ids
from data_loaders.errors import DataError
from data_loaders.parts import Placed, Row, placed_ids, placed_rows
from data_loaders.row_samples import needed
from data_loaders.rows import RowsSpec, column, parts_from_spec, rows_source
from data_loaders.selecting import EVERY, Choosing
from data_loaders.targets import PairTarget, RelevanceTarget
from data_loaders.tokenizing import Tokenized, TokenizedSpec
from data_loaders.types import Preview, Sample


class PairsSpec(TokenizedSpec):
    """Rows of two texts and how alike people find them. Each text is a sample of its own."""

    kind: Literal["pairs"] = "pairs"
    rows: RowsSpec = Field(description="Where the rows come from.")
    first_column: str = Field(default="sentence1", description="Column of one text.")
    second_column: str = Field(default="sentence2", description="Column of the other.")
    score_column: str = Field(default="score", description="Column of the judgement, a number.")


class CorpusSpec(TokenizedSpec):
    """Queries, the documents that are searched, and which of them are relevant to which query.

    Every document and every query is a sample; `samples` and `skip` count queries.
    """

    kind: Literal["corpus"] = "corpus"
    documents: RowsSpec = Field(description="Rows of documents.")
    queries: RowsSpec = Field(description="Rows of queries.")
    relevance: RowsSpec = Field(description="Rows of query, document and grade.")
    id_column: str = Field(default="id", description="Column of a document's or query's name.")
    text_column: str = Field(default="text", description="Column of its text.")
    query_column: str = Field(default="query", description="Relevance: column of the query's name.")
    document_column: str = Field(default="document", description="Relevance: the document's name.")
    grade_column: str | None = Field(
        default=None, description="Relevance: column of the grade, a whole number; 1 if absent."
    )


class Pairs(Tokenized, Choosing):
    """The samples of a PairsSpec: both texts of each row, one after the other."""

    def __init__(self, spec: PairsSpec) -> None:
        super().__init__(spec)
        self.spec = spec
        self.source = rows_source(spec.rows)

    def __iter__(self) -> Iterator[Sample]:
        spec = self.spec
        columns = (spec.first_column, spec.second_column, spec.score_column)
        for placed in placed_rows(parts_from_spec(spec.rows), self.positions, columns):
            row, where, pair = placed.row, placed.where, _pair(placed.id)
            score = _number(column(row, spec.score_column, where), where)
            for side, name in enumerate((spec.first_column, spec.second_column)):
                text = _text(row, name, where)
                yield Sample(
                    id=f"{pair}-{side + 1}",
                    inputs=self.arrays(self._tokenizer.encode(text)),
                    label=PairTarget(pair, score),
                    preview=Preview(text=text),
                )

    def _ids(self, positions: range) -> Iterator[tuple[int, str]]:
        return placed_ids(parts_from_spec(self.spec.rows), positions)


def _pair(row: str) -> str:
    """A pair's name, of that of its row."""
    folder, _, number = row.rpartition("row-")
    return f"{folder}pair-{number}"


class Corpus(Tokenized, Choosing):
    """The samples of a CorpusSpec: the documents, then the queries."""

    def __init__(self, spec: CorpusSpec) -> None:
        super().__init__(spec)
        self.spec = spec
        self.source = rows_source(spec.documents)

    def __iter__(self) -> Iterator[Sample]:
        yield from with_unique_ids(chain(self._documents(), self._queries()), self.source)

    def _documents(self) -> Iterator[Sample]:
        columns = (self.spec.id_column, self.spec.text_column)
        for placed in placed_rows(parts_from_spec(self.spec.documents), EVERY, columns):
            name, text = self._named(placed)
            yield self._sample(f"document {name}", text, RelevanceTarget(key=name))

    def _queries(self) -> Iterator[Sample]:
        grades = self._grades()
        columns = (self.spec.id_column, self.spec.text_column)
        for placed in placed_rows(parts_from_spec(self.spec.queries), self.positions, columns):
            name, text = self._named(placed)
            target = RelevanceTarget(grades=grades.get(name, {}))
            yield self._sample(f"query {name}", text, target)

    def _ids(self, positions: range) -> Iterator[tuple[int, str]]:
        rows = parts_from_spec(self.spec.queries)
        for placed in placed_rows(rows, positions, (self.spec.id_column,)):
            yield placed.place, self._name(placed)

    def _name(self, placed: Placed) -> str:
        return encodable(str(column(placed.row, self.spec.id_column, placed.where)))

    def _named(self, placed: Placed) -> tuple[str, str]:
        return self._name(placed), _text(placed.row, self.spec.text_column, placed.where)

    def _sample(self, name: str, text: str, target: RelevanceTarget) -> Sample:
        return Sample(
            id=name,
            inputs=self.arrays(self._tokenizer.encode(text)),
            label=target,
            preview=Preview(text=text),
        )

    def _grades(self) -> dict[str, dict[str, int]]:
        spec, found = self.spec, dict[str, dict[str, int]]()
        wanted = needed(spec.query_column, spec.document_column, spec.grade_column)
        for placed in placed_rows(parts_from_spec(spec.relevance), EVERY, wanted):
            row, where = placed.row, placed.where
            query, document = (
                encodable(str(column(row, name, where)))
                for name in (spec.query_column, spec.document_column)
            )
            grade = 1
            if spec.grade_column is not None:
                grade = int(_number(column(row, spec.grade_column, where), where))
            found.setdefault(query, {})[document] = grade
        return found


def _text(row: Row, name: str, where: str) -> str:
    value = column(row, name, where)
    if not isinstance(value, str):
        raise DataError(where, "the text is no text", got=repr(value))
    return encodable(value)


def _number(value: object, where: str) -> float:
    """Files of text hold numbers as text."""
    try:
        return float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        raise DataError(where, "is no number", got=repr(value)) from None
