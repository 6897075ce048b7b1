"""The samples that the candidate gets most wrong: a page full as a table, all of them as data.

Previews are cut so that the page stays small however many samples there are.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from calib.report.grid import Cell, Column, Row, Table, figure, script_json
from calib.report.page import Context, Page
from calib.report.words import NOTHING, anchor, number
from calib.results import CandidateRecord, SampleVerdict, TaskKind

STATIC_ROWS = 50
_DATA_BYTES_MAX = 1_700_000
_TEXT_CHARACTERS = (400, 240, 160, 120, 80, 40, 0)
_THUMBNAIL_BYTES_MAX = 400_000
"""Twice in the page at most: as data, and in the table that needs no script."""
_METADATA_CHARACTERS = 80
_LAYERS_NAMED = 3

_CONFIDENT = (
    Column("FP32 was sure"),
    Column("Samples", numeric=True),
    Column("Flipped", numeric=True),
    Column("Worsened", numeric=True),
)
_LEGENDS = {
    TaskKind.DETECTION: "In the pictures: FP32's boxes in blue, whole lines; {name}'s in orange, "
    "dashed; both as a user sees them.",
    TaskKind.SEGMENTATION: "In the pictures: orange where {name} gives a pixel another class than "
    "FP32.",
}
_TAGS = {"worsened": "fail", "improved": "pass"}


def context(page: Page) -> Context:
    """See `Section.context`."""
    tail = page.shown.tail
    overall = {
        "moved": _moved(page.shown),
        "confident": _confident(page.shown),
        "score": _score_words(page.shown),
        "has_flips": page.shown.tells_flips,
    }
    if not tail:
        return {"static": None, **overall}
    pictures = _pictures(tail)
    grid, characters = _grid(page, pictures)
    static = _table(page.shown, tail[:STATIC_ROWS], _TEXT_CHARACTERS[0], pictures)
    return {
        "static": static,
        **overall,
        "kept": len(grid["rows"]),
        "characters": characters,
        "pictures": len(pictures),
        "legend": _legend(page.shown) if pictures else "",
        "data": {"tail": grid},
    }


def _pictures(tail: Sequence[SampleVerdict]) -> dict[str, str]:
    """Thumbnails of the worst samples, as many as the page has room for; by sample."""
    found: dict[str, str] = {}
    room = _THUMBNAIL_BYTES_MAX
    for sample in tail:
        if sample.thumbnail_png_base64 is not None:
            room -= len(sample.thumbnail_png_base64)
            if room < 0:
                break
            found[sample.id] = sample.thumbnail_png_base64
    return found


def _grid(page: Page, pictures: dict[str, str]) -> tuple[dict[str, Any], int]:
    """All samples as data, with as much of their texts as there is room for."""
    table = _table(page.shown, page.shown.tail, 0, {})
    rows = [_row_data(row, table.columns) for row in table.rows]
    bare = [_size(row) for row in rows]
    texts = [sample.text or "" for sample in page.shown.tail]
    limit = _DATA_BYTES_MAX - 2 * sum(map(len, pictures.values()))
    for characters in _TEXT_CHARACTERS:
        cut = [_cut(text, characters) for text in texts]
        sizes = [own + _size(text) for own, text in zip(bare, cut, strict=True)]
        if sum(sizes) <= limit:
            break
    room, kept = limit, 0
    while kept < len(sizes) and sizes[kept] <= room:
        room -= sizes[kept]
        kept += 1
    grid = {
        "columns": [
            {"title": c.title, "numeric": c.numeric, "choice": c.choice} for c in table.columns
        ],
        "rows": [_with_text(row, text) for row, text in zip(rows[:kept], cut, strict=False)],
        "pictures": pictures,
    }
    return grid, characters


def _size(value: Any) -> int:
    return len(script_json(value).encode())


def _with_text(row: list[Any], text: str) -> list[Any]:
    """The row with a text in its last cell, which has none yet but may have notes."""
    last = row[-1]
    return [*row[:-1], {**last, "t": text} if isinstance(last, dict) else text]


def _row_data(row: Row, columns: tuple[Column, ...]) -> list[Any]:
    return [
        _cell_data(cell, column.numeric) for cell, column in zip(row.cells, columns, strict=True)
    ]


def _cell_data(cell: Cell, is_numeric: bool) -> Any:
    if is_numeric and not cell.notes and not cell.href:
        value = cell.value
        if value is None or math.isnan(value):
            return None
        return float(f"{value:.4g}") if math.isfinite(value) else cell.text
    extra = {"n": list(cell.notes), "h": cell.href, "g": cell.tag}
    if not any(extra.values()):
        return cell.text
    return {"t": cell.text, **{k: v for k, v in extra.items() if v}}


def _table(
    shown: CandidateRecord,
    tail: Sequence[SampleVerdict],
    characters: int,
    pictures: dict[str, str],
) -> Table:
    has_probability = any(s.probability is not None for s in tail)
    has_flips, by_score = shown.tells_flips, bool(_score_words(shown))
    # Answers that are no classes are hardly ever the same: there is nothing to choose from.
    has_classes = shown.score is None or shown.score.kind is TaskKind.CLASSIFICATION
    columns = (
        Column("Sample"),
        *((Column("Flip", choice=True),) * has_flips),
        Column("Label", choice=has_classes),
        Column("FP32 says"),
        Column("INT8 says" if shown.calibrator else f"{shown.name} says", choice=has_classes),
        *((Column("FP32 prob.", True), Column("Prob.", True)) * has_probability),
        Column("FP32 score" if by_score else "FP32 margin", numeric=True),
        Column("Score" if by_score else "Margin", numeric=True),
        Column("Lost" if by_score else "Lost margin", numeric=True),
        Column("Clipped, %", numeric=True),
        Column("What is in it"),
    )
    sign = -1 if shown.score is not None and shown.score.sample_score_negated else 1
    form = _Form(characters, has_probability, has_flips, sign)
    rows = tuple(_row(s, form, pictures.get(s.id, "")) for s in tail)
    return Table(
        "tail-table", f"The tail of {shown.name}, the worst first", columns, rows, below=True
    )


@dataclass(frozen=True, slots=True)
class _Form:
    """How a row is shown: cut where, with what, and -1 where a margin is a negated error."""

    characters: int
    has_probability: bool
    has_flips: bool
    sign: int


def _row(sample: SampleVerdict, form: _Form, picture: str) -> Row:
    characters, sign = form.characters, form.sign
    probabilities = (
        (sample.reference_probability, sample.probability) if form.has_probability else ()
    )
    flip = Cell(sample.flip or "none", tag=_TAGS.get(sample.flip, "") if sample.flip else "")
    return Row(
        id=anchor("sample", sample.id),
        cells=(
            Cell(sample.id),
            *((flip,) * form.has_flips),
            Cell(NOTHING if sample.label is None else sample.label),
            Cell(sample.reference_prediction),
            Cell(sample.prediction),
            *(figure(value, 3) for value in probabilities),
            figure(sign * sample.reference_margin + 0.0, 3),
            figure(sign * sample.margin + 0.0, 3),
            figure(sample.margin_loss, 3),
            figure(sample.saturation_pct, 3),
            Cell(_cut(sample.text or "", characters), notes=tuple(_notes(sample)), image=picture),
        ),
    )


def _notes(sample: SampleVerdict) -> list[str]:
    """Metadata, FP16's answer, the layers that left their range, the nearest known sample."""
    known = (f"{k}: {_cut(v, _METADATA_CHARACTERS)}" for k, v in sample.metadata.items())
    notes = ["; ".join(known)] if sample.metadata else []
    if sample.fp16 is not None:
        margin = number(sample.fp16.margin, 3)
        notes.append(f"FP16 says {sample.fp16.prediction}, margin {margin}")
    if sample.left_range:
        named = ", ".join(
            f"{r.tensor} ({number(r.clipped_pct, 3)} % beyond)"
            for r in sample.left_range[:_LAYERS_NAMED]
        )
        more = sample.left_range_count - min(len(sample.left_range), _LAYERS_NAMED)
        others = f" and {more} more" if more > 0 else ""
        notes.append(f"left the calibrated range at {named}{others}")
    if (nearest := sample.nearest) is not None:
        says = f", FP32 says {nearest.prediction}" if nearest.prediction is not None else ""
        near = f"nearest calibration sample: {nearest.id}{says}"
        notes.append(f"{near}, distance {number(nearest.distance, 3)}")
    return notes


def _moved(shown: CandidateRecord) -> str:
    """A sentence on the loss of margin of all samples together, where the record has it."""
    moved = shown.moved
    if moved is None or not moved.margin_loss:
        return ""
    # Of -0.0 and 0.0 the sum is 0.0.
    parts = (f"{number(v + 0.0, 3)} at {p} %" for p, v in moved.margin_loss.items())
    what = "score" if _score_words(shown) else "margin"
    return f"Percentiles of the {what} lost, of all {moved.samples:,} samples: {', '.join(parts)}."


def _score_words(shown: CandidateRecord) -> str:
    """What a sample's score is; nothing where it is a classification's margin."""
    score = shown.score
    if score is None or score.sample_score == "margin":
        return ""
    unit = f", in {score.sample_score_unit}" if score.sample_score_unit else ""
    return f"{score.sample_score}{unit}{', lower is better' * score.sample_score_negated}"


def _legend(shown: CandidateRecord) -> str:
    kind = None if shown.score is None else shown.score.kind
    return "" if kind is None else _LEGENDS.get(kind, "").format(name=shown.name)


def _confident(shown: CandidateRecord) -> Table:
    """What became of the samples that FP32 was sure of."""
    found = shown.moved.confident if shown.moved is not None else ()
    rows = tuple(
        Row(
            (
                Cell(f"at least {100 * c.probability:g} %"),
                *(figure(n, text=f"{n:,}") for n in (c.samples, c.flips, c.worsened)),
            )
        )
        for c in found
    )
    return Table("confident-table", "What became of confident predictions", _CONFIDENT, rows)


def _cut(text: str, characters: int) -> str:
    if characters == 0:
        return ""
    return text if len(text) <= characters else f"{text[:characters].rstrip()}…"
