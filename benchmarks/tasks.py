"""Each kind of task against an oracle on real outputs, and planted damage that must be found.

The examples' nets answer in FP32, and once more with their weights rounded to 8 bits. calib's
figures are held against those of other people's code. Then the outputs of some samples are damaged
further: the headline must fall, and just those samples must lead the tail, before all that the
rounding moved. Where a class is lost everywhere, it must be reported as gone.
"""

import argparse
import json
import math
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))

from benchmarks.task_checks.cases import Case, Outputs, from_config, pairs_of, relabelled  # noqa: E402
from benchmarks.task_checks.damage import DAMAGE, Damage  # noqa: E402
from benchmarks.task_checks.judged import Found, compared  # noqa: E402
from benchmarks.task_checks.oracles import ORACLES  # noqa: E402
from calib.tasks import kind_from_spec  # noqa: E402
from calib.tasks.multilabel import MultiLabelSpec  # noqa: E402
from calib.tasks.similarity import SimilaritySpec  # noqa: E402
from examples import newsgroups  # noqa: E402

DIFFERENCE_MAX = 1e-9
"""In points, between calib's figure and an oracle's."""
_DAMAGED = 8
_APART_MAX = 1.0
_APART_MIN = 5.0


def cases(quick: bool) -> Iterator[Case]:
    """All of them, one at a time."""
    part = 4 if quick else 1
    lines = from_config("textline", 240 // part)
    yield relabelled(lines, "line direction", lines.spec, lambda sample: sample.label)
    yield relabelled(
        lines,
        "line direction, as labels",
        MultiLabelSpec(threshold=0.5),
        lambda sample: np.eye(2, dtype=np.int64)[sample.label],  # type: ignore[index]
    )
    yield from_config("text_recognizer", 96 // part)
    yield from_config("text_segmenter", 40 // part)
    yield from_config("character_detector", 72 // part)
    counts = {"documents": {"count": 240 // part}}
    retriever = from_config(
        "retriever",
        72 // part,
        queries={"count": 72 // part},
        relevance={"count": 72 // part},
        **counts,
    )
    yield retriever
    groups = {row["id"]: row["group"] for row in newsgroups.rows("validation")}
    yield pairs_of(retriever, groups, SimilaritySpec(output="embedding"))


def held_against_oracles(
    case: Case, found: Found
) -> Iterator[tuple[str, str, float, float, float]]:
    """Oracle, metric, FP32's figure, the candidate's, and the larger difference to the oracle's."""
    oracle = ORACLES[case.spec.kind]  # type: ignore[attr-defined]
    theirs, ours = oracle(case, case.reference), oracle(case, case.candidate)
    for name, figures in theirs.items():
        for metric, expected in figures.items():
            gaps = [
                _gap(found.reference[metric], expected),
                _gap(found.own[metric], ours[name][metric]),
            ]
            yield name, metric, found.reference[metric], found.own[metric], max(gaps)


def _gap(one: float, other: float) -> float:
    if math.isnan(one) and math.isnan(other):
        return 0.0
    gap = abs(one - other)
    return math.inf if math.isnan(gap) else gap


def planted(case: Case, damage: Damage, known: Found) -> tuple[str, list[str]]:
    """Damage a few samples, and then all; a row of the table, and what was not found."""
    by_id = {sample.id: sample for sample in case.samples}
    hurt = [name for name in sorted(known.rights) if damage.fits(by_id[name])][:_DAMAGED]
    outputs = _with_damage(case, damage, {damage.where(name) for name in hurt})
    found = compared(case, outputs)
    metric = _headline(case)
    sign = 1 if metric.higher_is_better else -1
    loss = sign * (known.own[metric.name] - found.own[metric.name])
    first = set(found.tail[: len(hurt)]) == set(hurt)
    problems = []
    if not hurt or loss <= 0:
        problems.append(f"{damage.name}: {metric.title} does not fall")
    if not first:
        problems.append(f"{damage.name}: other samples are before those damaged in the tail")
    if damage.gone:
        everywhere = compared(case, _with_damage(case, damage, set(by_id)))
        if everywhere.gone != damage.gone:
            problems.append(f"{damage.name}: not seen as gone: {', '.join(damage.gone)}")
    gone = ", ".join(damage.gone) or "-"
    row = (
        f"| {damage.name} | {case.name} | {len(hurt)} of {len(known.tail)} | {metric.title} "
        f"{known.own[metric.name]:.2f} → {found.own[metric.name]:.2f} "
        f"| {'yes' if first else 'no'} | {gone} |"
    )
    return row, problems


def _with_damage(case: Case, damage: Damage, names: set[str]) -> list[Outputs]:
    return [
        damage.planted(outputs) if sample.id in names else outputs
        for sample, outputs in zip(case.samples, case.candidate, strict=True)
    ]


def _headline(case: Case):
    return kind_from_spec(case.spec, list(case.reference[0]), case.class_names).metrics[0]


def apart(case: Case, known: Found) -> list[str]:
    """Scores a fifth lower show in the scores of matched boxes alone, smaller boxes in overlap."""
    problems = []
    for name, column, change, moves, stays in (
        ("scores", slice(4, 5), lambda v: v * 0.8, "matched_score_pct", "matched_iou_pct"),
        ("boxes", slice(2, 4), lambda v: v - 0.15, "matched_iou_pct", "matched_score_pct"),
    ):
        changed = []
        for outputs in case.candidate:
            grids = {key: grid.copy() for key, grid in outputs.items()}
            for grid in grids.values():
                grid[column] = change(grid[column])
            changed.append(grids)
        found = compared(case, changed)
        moved, stayed = (abs(found.own[m] - known.own[m]) for m in (moves, stays))
        print(f"{name} alone made worse: {moves} moves by {moved:.2f}, {stays} by {stayed:.2f}")
        if moved < _APART_MIN or stayed > _APART_MAX:
            problems.append(f"{name} are not judged apart")
    return problems


def main() -> None:
    """Compare, damage, and judge."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a quarter of the samples")
    parser.add_argument("--check", action="store_true", help="exit 1 when something is missed")
    options = parser.parse_args()
    os.chdir(ROOT)
    rows: list[str] = []
    problems: list[str] = []
    largest = 0.0
    figures = 0
    print("| outputs | oracle | metric | FP32 | rounded weights | difference |")
    print("|---|---|---|--:|--:|--:|")
    for case in cases(options.quick):
        known = compared(case, case.candidate)
        for oracle, metric, theirs, ours, gap in held_against_oracles(case, known):
            print(f"| {case.name} | {oracle} | {metric} | {theirs:.4f} | {ours:.4f} | {gap:.0e} |")
            largest, figures = max(largest, gap), figures + 2 * math.isfinite(theirs)
            if gap > DIFFERENCE_MAX:
                problems.append(f"{case.name}: {metric} is not {oracle}'s")
        sys.stdout.flush()
        for damage in DAMAGE:
            if damage.case == case.name:
                row, missed = planted(case, damage, known)
                rows.append(row)
                problems += missed
        if case.name == "character_detector":
            problems += apart(case, known)
    print("\n| damage | outputs | samples | headline | first in the tail | seen as gone |")
    print("|---|---|--:|---|---|---|")
    print("\n".join(rows))
    for problem in problems:
        print(f"missed: {problem}")
    summary = {"figures": figures, "largest_difference": largest, "damage": len(rows)}
    print(json.dumps(summary | {"missed": len(problems)}))
    sys.exit(1 if options.check and problems else 0)


if __name__ == "__main__":
    main()
