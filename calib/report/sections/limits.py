"""Every limit held against every candidate."""

from calib.report.evidence import bounds_words, evidence_of, rule_anchor, rule_bounds
from calib.report.grid import Cell, Column, Row, Table, figure
from calib.report.page import Context, Page
from calib.report.words import NOTHING, anchor, number, verdict_words
from calib.results import CandidateVerdict, RuleVerdict

_COLUMNS = (
    Column("Asked"),
    Column("Found", numeric=True),
    Column("Samples", numeric=True),
    Column("Verdict"),
    Column("Details"),
    Column("Evidence"),
)

_PAIRED = (
    Column("Against"),
    Column("Samples", numeric=True),
    Column("Worsened", numeric=True),
    Column("Improved", numeric=True),
    Column("Lost, points", numeric=True),
    Column("McNemar's p", numeric=True),
)


def context(page: Page) -> Context:
    """The shown candidate's limits first, the others' folded."""
    judged = sorted(page.result.verdict.candidates, key=lambda v: v.candidate != page.shown.name)
    return {"judged": [(v, _table(k, v), _paired(k, v)) for k, v in enumerate(judged)]}


def _table(number_of_table: int, verdict: CandidateVerdict) -> Table:
    return Table(
        id=f"limits-{number_of_table}",
        caption=f"{verdict.candidate}: {verdict_words(verdict.verdict)}",
        columns=_COLUMNS,
        rows=tuple(_row(verdict.candidate, rule) for rule in verdict.rules),
    )


def _paired(number_of_table: int, verdict: CandidateVerdict) -> Table:
    """Against each rival on the same samples."""
    rows = tuple(
        Row(
            (
                Cell(p.rival),
                figure(p.samples, text=f"{p.samples:,}"),
                figure(p.worsened, text=f"{p.worsened:,}"),
                figure(p.improved, text=f"{p.improved:,}"),
                Cell(
                    f"{p.drop_points:.2f}",
                    p.drop_points,
                    notes=(
                        bounds_words(p.low, p.high, p.alpha, "(Tango)"),
                        bounds_words(p.newcombe_low, p.newcombe_high, p.alpha, "(Newcombe)"),
                    ),
                ),
                figure(p.mcnemar_p, 2),
            )
        )
        for p in verdict.paired
    )
    caption = f"{verdict.candidate} and each rival on the same samples"
    return Table(f"paired-{number_of_table}", caption, _PAIRED, rows)


def _row(candidate: str, rule: RuleVerdict) -> Row:
    target, name = evidence_of(rule.rule)
    bounds = rule_bounds(rule)
    found = NOTHING if rule.found is None else f"{number(rule.found)} {rule.unit}".strip()
    return Row(
        id=rule_anchor(candidate, rule.rule),
        cells=(
            Cell(rule.title),
            Cell(found, rule.found, notes=(bounds,) if bounds else ()),
            figure(rule.samples, text=f"{rule.samples:,}"),
            Cell(verdict_words(rule.verdict), tag=rule.verdict.lower()),
            Cell(rule.details, notes=(rule.advice,) if rule.advice else ()),
            Cell(name, href=f"#{anchor(target)}"),
        ),
    )
