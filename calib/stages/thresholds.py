"""Every calibrator's thresholds, and how they came about."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
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
    trusted,
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
        fallback: by tensor that has too few values for it, the calibrator that was to be used.
        values: by tensor of `fallback`, how many it has.
    """

    amax: dict[str, float]
    formula: dict[str, Calibrator]
    chosen: dict[str, Calibrator]
    fallback: dict[str, Calibrator] = field(default_factory=dict)
    values: dict[str, int] = field(default_factory=dict)


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
    fallback = {
        name: formula[name]
        for name, found in statistics.items()
        # Where all is zero, or the threshold is a shift's, there is nothing to find.
        if trusted(formula[name], found) != formula[name]
        and found.amax > 0
        and name not in ready.amax
    }
    formula = {name: trusted(formula[name], found) for name, found in statistics.items()}
    values = {name: wanted.usable_values(statistics[name]) for name, wanted in fallback.items()}
    return Thresholds({**amax, **ready.amax}, formula, chosen, fallback, values)


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
