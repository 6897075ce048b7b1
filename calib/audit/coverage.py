"""Classes and slices that a split lacks."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from scipy.stats import binom

from calib.audit.facts import AuditFacts, SplitFacts
from calib.gate.statistics import holm
from calib.results import AuditFinding, GroupCount, Severity

CLASS = "class"
_ALPHA = 0.01
_FEW = 1 / 3
_ADD_MIN = 16
_SHOWN = 8
_SORTED = 0.2
"""Labels that change less than this share of what chance would give lie sorted."""
_SORTED_MIN = 30
_DRAWS = 5
"""With so many samples a class, a random draw of as many from each lacks hardly any."""


@dataclass(frozen=True, slots=True)
class _Column:
    """One way to divide the samples, e.g. by class."""

    name: str
    calibration: Mapping[str, int]
    validation: Mapping[str, int]
    known: tuple[str, ...] = ()

    @property
    def values(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys([*self.known, *self.validation, *self.calibration]))


def group_counts(facts: AuditFacts) -> tuple[GroupCount, ...]:
    """How often each class and each slice occurs."""
    return tuple(
        GroupCount(
            column=column.name,
            name=name,
            calibration=column.calibration.get(name, 0),
            validation=column.validation.get(name, 0),
        )
        for column in _columns(facts)
        for name in column.values
    )


def coverage(facts: AuditFacts) -> Iterator[AuditFinding]:
    """What each split lacks, and labels that lie sorted."""
    for column in _columns(facts):
        if column.calibration and column.validation:
            yield from _calibration_lacks(facts, column)
        if column.validation:
            yield from _validation_lacks(facts, column)


def _columns(facts: AuditFacts) -> Iterator[_Column]:
    own, other = facts.calibration, facts.validation
    if own.classes or other.classes:
        yield _Column(CLASS, own.classes, other.classes, facts.known_classes)
    for name in dict.fromkeys([*own.slices, *other.slices]):
        yield _Column(name, own.slices.get(name, {}), other.slices.get(name, {}))


def _calibration_lacks(facts: AuditFacts, column: _Column) -> Iterator[AuditFinding]:
    """Values that are rarer in calibration than validation's shares make likely."""
    own, other = sum(column.calibration.values()), sum(column.validation.values())
    shares = {name: count / other for name, count in column.validation.items() if count}
    counts = {name: column.calibration.get(name, 0) for name in shares}
    p_values = holm([float(binom.cdf(counts[n], own, share)) for n, share in shares.items()])
    # Shares of a validation split that is itself only a part of what there is say little.
    whole = all(column.validation.get(name) for name in column.values)
    lacking = {
        name: share
        for (name, share), p in zip(shares.items(), p_values, strict=True)
        if (counts[name] == 0 and own * share >= 1)
        or (whole and p < _ALPHA and counts[name] < _FEW * own * share)
    }
    if not lacking:
        return
    # FP32's predictions stand for labels, of the samples looked at only.
    scale = facts.calibration.samples / own
    wanted = {
        name: max(_ADD_MIN, round(share * own * scale) - round(counts[name] * scale))
        for name, share in lacking.items()
    }
    none = [name for name in lacking if counts[name] == 0]
    by = "FP32's prediction" if column.name == CLASS and facts.calibration.predicted else "label"
    told = f" (by {by})" if column.name == CLASS else ""
    yield AuditFinding(
        check="coverage",
        severity=Severity.WARNING,
        title=f"calibration {'lacks' if len(none) == len(lacking) else 'has too few of'} "
        f"{_named(column, list(lacking))}",
        evidence=", ".join(
            f"{name}: {counts[name]} of {own:,} calibration samples where validation's share, "
            f"{100 * share:.2g} %, would give {own * share:.0f}"
            for name, share in list(lacking.items())[:_SHOWN]
        )
        + told
        + (f"; {len(none)} of them have none" if len(none) > 1 else ""),
        action="Add "
        + ", ".join(
            f"about {_round(count)} samples of {column.name} {name}"
            for name, count in list(wanted.items())[:_SHOWN]
        )
        + (f" and more of {len(wanted) - _SHOWN} others" if len(wanted) > _SHOWN else "")
        + ".",
        names=tuple(lacking),
    )


def _validation_lacks(facts: AuditFacts, column: _Column) -> Iterator[AuditFinding]:
    """Values that validation has no sample of: nothing is known of them after the run."""
    values = column.values
    lacking = [name for name in values if not column.validation.get(name)]
    if not lacking:
        return
    total = sum(column.validation.values())
    sorted_too = column.name == CLASS and is_sorted(facts.validation)
    enough = total >= _DRAWS * len(values)
    grave = column.name == CLASS and enough and (sorted_too or 2 * len(lacking) >= len(values))
    held = len(values) - len(lacking)
    evidence = f"{total:,} validation samples hold {held} of {len(values)} {_plural(column.name)}"
    if sorted_too:
        evidence += (
            f", and the label changes only {facts.validation.label_changes} times from sample to "
            "sample: a cut of a sorted file"
        )
    yield AuditFinding(
        check="coverage",
        severity=Severity.ERROR if grave else Severity.WARNING if enough else Severity.INFO,
        title=f"validation lacks {_named(column, lacking)}",
        evidence=evidence,
        action=(
            "Shuffle the file before taking a part of it, with a fixed seed."
            if sorted_too
            else f"Add samples of each to validation: the verdict says nothing of "
            f"{'them' if len(lacking) > 1 else 'it'}."
        ),
        names=tuple(lacking),
    )


def is_sorted(split: SplitFacts) -> bool:
    """Whether a split's labels come in blocks, far fewer than a shuffled order would give."""
    total = split.labelled
    counts = list(split.classes.values())
    if total < _SORTED_MIN or len(counts) < 2 or split.predicted:
        return False
    expected = (total - 1) * (1 - sum((n / total) ** 2 for n in counts))
    return split.label_changes < _SORTED * expected


def _named(column: _Column, names: list[str]) -> str:
    shown = ", ".join(names[:_SHOWN])
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    kind = column.name if len(names) == 1 else f"{len(names)} {_plural(column.name)}:"
    return f"{kind} {shown}{more}"


def _plural(name: str) -> str:
    return "classes" if name == CLASS else f"values of {name}"


def _round(count: int) -> int:
    """To two digits: more would look like knowledge."""
    return int(float(f"{count:.2g}"))
