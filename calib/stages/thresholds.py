"""Every calibrator's thresholds, how they came about, and what is odd about them."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from pydantic import TypeAdapter

from calib.calibrators import (
    AutoSpec,
    CacheSpec,
    Calibrator,
    CalibratorSpec,
    Convergence,
    MinMaxSpec,
    TensorStatistics,
    amax_from_statistics,
    convergence,
)
from calib.calibrators.cache import load_amax
from calib.errors import ConfigError
from calib.progress import Advance
from calib.stages.choose import choose
from calib.stages.inputs import Inputs
from calib.stages.observation import Observed
from calib.stages.prepare import Prepared
from calib.stages.workbench import Workbench
from calib.store import write_atomically

_GROWTH = TypeAdapter(list[Convergence])


@dataclass(frozen=True, slots=True)
class Thresholds:
    """One calibrator's thresholds by tensor.

    Attributes:
        amax: the thresholds.
        formula: by which each was found, if by one.
        chosen: the same where the calibrator is one that chooses, else empty.
    """

    amax: dict[str, float]
    formula: dict[str, Calibrator]
    chosen: dict[str, Calibrator]


def find_thresholds(
    bench: Workbench,
    inputs: Inputs,
    ready: Prepared,
    seen: Observed,
    spec: CalibratorSpec,
    statistics: dict[str, TensorStatistics],
) -> Thresholds:
    """One calibrator's thresholds; those that belong to a shift stay as they are.

    Raises:
        ConfigError: if auto has no batch to hold out, or a cache lacks a tensor.
        StoreError: if a cache cannot be read.
    """
    if isinstance(spec, CacheSpec):
        return _given_thresholds(spec, statistics)
    chosen: dict[str, Calibrator] = {}
    if isinstance(spec, AutoSpec):
        by_name = {candidate.name: candidate for candidate in spec.candidates}
        names = choose(bench, inputs, ready, seen, spec, statistics)
        formula: dict[str, Calibrator] = {tensor: by_name[name] for tensor, name in names.items()}
        chosen = formula
    else:
        formula = dict.fromkeys(statistics, spec)
    amax = {name: amax_from_statistics(formula[name], s) for name, s in statistics.items()}
    return Thresholds({**amax, **ready.amax}, formula, chosen)


def _given_thresholds(spec: CacheSpec, statistics: dict[str, TensorStatistics]) -> Thresholds:
    given = load_amax(spec.path)
    missing = [name for name in statistics if name not in given]
    if missing and spec.missing == "refuse":
        raise ConfigError(
            "calibration.calibrators",
            f"{spec.path} has no scale for {len(missing)} of {len(statistics)} tensors",
            got=", ".join(list(given)[:3]) or "no scales",
            expected=", ".join(missing[:3]),
            fix="Leave their nodes in float with quantization.exclude, or set missing: minmax.",
        )
    formula: dict[str, Calibrator] = dict.fromkeys(missing, MinMaxSpec())
    found = {name: amax_from_statistics(formula[name], statistics[name]) for name in missing}
    return Thresholds({name: given.get(name) or found[name] for name in statistics}, formula, {})


def other_thresholds(
    spec: CalibratorSpec, statistics: dict[str, TensorStatistics]
) -> dict[str, float]:
    """Thresholds of tensors that are not quantized.

    Auto, which has no consumer to try them on, takes its first candidate; a cache has what it has.
    """
    if isinstance(spec, CacheSpec):
        given = load_amax(spec.path)
        return {name: given[name] for name in statistics if name in given}
    formula = spec.candidates[0] if isinstance(spec, AutoSpec) else spec
    return {name: amax_from_statistics(formula, s) for name, s in statistics.items()}


def find_growth(
    bench: Workbench, seen: Observed, thresholds: dict[str, Thresholds]
) -> dict[tuple[str, str], Convergence]:
    """By calibrator and tensor: how the threshold came about."""
    wanted = {
        (name, tensor): formula
        for name, found in thresholds.items()
        for tensor, formula in found.formula.items()
    }
    key = {
        "observed": seen.digest,
        "formulas": [[*pair, repr(formula)] for pair, formula in wanted.items()],
    }

    def make(folder: Path, advance: Advance) -> None:
        def one(pair: tuple[str, str]) -> Convergence:
            advance(1)
            return convergence(seen.content.parts[pair[1]], wanted[pair])

        with ThreadPoolExecutor(bench.backend.threads) as pool:
            found = list(pool.map(one, wanted))
        write_atomically(folder / "growth.json", _GROWTH.dump_json(found))

    made = bench.artifact("growth", "enough samples?", key, make, len(wanted))
    found = _GROWTH.validate_json((made.path / "growth.json").read_bytes())
    return dict(zip(wanted, found, strict=True))


def odd_thresholds(
    bench: Workbench, statistics: dict[str, TensorStatistics], thresholds: dict[str, Thresholds]
) -> Iterator[str]:
    """A sentence for each tensor that held nothing, one value, or had no scale in a cache."""
    for name, found in statistics.items():
        if found.count == 0:
            yield f"{name} held no value in any calibration sample"
        elif found.zeros == found.count:
            yield f"{name} was zero in every calibration sample"
        elif found.minimum == found.maximum:
            yield f"{name} was {found.minimum:g} in every calibration sample"
    for spec in bench.experiment.calibration.calibrators:
        formula = thresholds[spec.name].formula
        if isinstance(spec, CacheSpec) and formula:
            yield f"{spec.path} has no scale for {', '.join(formula)}: minmax was taken"
