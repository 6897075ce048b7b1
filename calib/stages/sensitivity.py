"""Each group of nodes alone in INT8, and all up to it: which of them the loss comes from, and why.

The model as it was given, one calibrator's thresholds, calibration samples alone.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from calib.backends.base import Engine
from calib.graph.groups import Group, groups_from_selection
from calib.graph.linear import linears
from calib.graph.native import Range
from calib.graph.qdq import Corrections
from calib.graph.switched import ACTIVATIONS, WEIGHTS, switched
from calib.graph.taps import tapped
from calib.journal import Journal
from calib.progress import Advance
from calib.remedies.rounding import INT8_MAX
from calib.results import GroupSensitivity, SensitivityRecord
from calib.stages.inputs import Inputs
from calib.stages.mixed import groups_of
from calib.stages.native import clipped_ranges
from calib.stages.observation import observed
from calib.stages.panel import Panel, open_panel
from calib.stages.prepare import Prepared, prepared, without_unfit
from calib.stages.shard import Shard
from calib.stages.thresholds import find_thresholds
from calib.stages.workbench import Workbench
from calib.store import write_atomically
from data_loaders.types import Array

_SAMPLES = 16
_VARIANTS = 4
_WIDEST = 3
_TAPS_AT_ONCE = 16


@dataclass(frozen=True, slots=True)
class _Tensor:
    """One activation: its own noise, and its channels."""

    sqnr_db: float | None
    clipped_pct: float
    widest: tuple[int, ...]
    width_ratio: float


_UNTOUCHED = _Tensor(None, 0.0, (), 1.0)
"""Of a group whose activations the model quantizes itself."""


@dataclass(frozen=True, slots=True)
class _Error:
    """One choice of what is rounded: at the scores, and over how many samples."""

    sqnr_db: float | None
    changed: int
    samples: int


def sensitivity(bench: Workbench, inputs: Inputs) -> SensitivityRecord:
    """Measure every group of the model as it was given.

    A run that was broken off goes on where it was.

    Raises:
        ModelError: if nothing can be quantized.
        DataError: if an output of the FP32 model is not finite.
    """
    experiment = bench.experiment
    spec = experiment.calibration.calibrators[0]
    plain = experiment.quantization.model_copy(update={"remedies": "none"})
    update = {
        "quantization": plain,
        "calibration": experiment.calibration.model_copy(update={"statistics": None}),
    }
    bench = replace(bench, experiment=experiment.model_copy(update=update))
    ready = prepared(bench, inputs)
    seen = observed(bench, inputs, ready, Shard())
    whole = {name: parts.whole() for name, parts in seen.content.parts.items()}
    ready = without_unfit(bench, ready, whole)
    statistics = {name: whole[name] for name in ready.selection.activation_tensors}
    amax = find_thresholds(bench, inputs, ready, seen, spec, statistics).amax
    key = {
        "observed": seen.digest,
        "calibrator": spec.model_dump(mode="json"),
        "task_output": inputs.task_output.name,
        "layout": [plain.layout, plain.weight_limit],
    }
    ranges = clipped_ranges(amax, whole, amax, {}) if plain.layout == "native" else None
    journal = bench.journal("sensitivity", key)

    def make(folder: Path, advance: Advance) -> None:
        measured = _Measured(bench, inputs, ready, amax, ranges, journal, advance)
        found = measured.record(spec.name)
        write_atomically(folder / "record.json", found.model_dump_json())
        journal.close()

    steps = len(groups_from_selection(ready.selection, {})) * _VARIANTS
    found = bench.artifact("sensitivity", "sensitivity", key, make, steps)
    return SensitivityRecord.model_validate_json((found.path / "record.json").read_bytes())


@dataclass(frozen=True, slots=True)
class _Measured:
    bench: Workbench
    inputs: Inputs
    ready: Prepared
    amax: Mapping[str, float]
    ranges: Mapping[str, Range] | None
    journal: Journal
    advance: Advance

    def record(self, calibrator: str) -> SensitivityRecord:
        panel = open_panel(self.bench, self.inputs, self.ready.plain)
        groups, total = groups_of(self.ready.graph, self.ready.selection, panel)
        tensors = self._tensors(panel, groups)
        model = switched(
            self.ready.graph,
            self.ready.selection,
            self.amax,
            Corrections(),
            groups,
            ranges=self.ranges,
            limit=self.bench.experiment.quantization.weight_limit,
        )
        with self.bench.engine(panel.exposed(model)) as engine:
            measure = self._measure(panel, engine, len(groups))
            rows = [
                self._group(groups, number, measure, tensors, total)
                for number in range(len(groups))
            ]
            everything = list(range(len(groups)))
            whole = measure(f"{len(groups) - 1} upto", everything, everything)
        return SensitivityRecord(
            calibrator=calibrator,
            samples=whole.samples,
            int8_db=whole.sqnr_db,
            groups=tuple(rows),
        )

    def _group(
        self,
        groups: tuple[Group, ...],
        number: int,
        measure: Callable[[str, list[int], list[int]], _Error],
        tensors: Mapping[str, _Tensor],
        total: int,
    ) -> GroupSensitivity:
        group, own, before = groups[number], [number], list(range(number + 1))
        tensor = tensors[group.tensors[0]] if group.tensors else _UNTOUCHED
        upto = measure(f"{number} upto", before, before)
        found = GroupSensitivity(
            name=group.name,
            nodes=group.nodes,
            macs_pct=100 * group.macs / total,
            alone_db=measure(f"{number} both", own, own).sqnr_db,
            activations_db=measure(f"{number} activations", own, []).sqnr_db,
            weights_db=measure(f"{number} weights", [], own).sqnr_db,
            upto_db=upto.sqnr_db,
            upto_changed=upto.changed,
            tensor_db=tensor.sqnr_db,
            clipped_pct=tensor.clipped_pct,
            widest_channels=tensor.widest,
            width_ratio=tensor.width_ratio,
        )
        self.advance(_VARIANTS)
        return found

    def _measure(
        self, panel: Panel, engine: Engine, count: int
    ) -> Callable[[str, list[int], list[int]], _Error]:
        def measure(name: str, activations: list[int], weights: list[int]) -> _Error:
            settings = {ACTIVATIONS: _on(count, activations), WEIGHTS: _on(count, weights)}

            def run() -> list[float]:
                error = panel.judge_engine(engine, settings, _SAMPLES)
                return [error.noise, error.changed, error.samples]

            noise, changed, samples = self.journal.once(name, run)
            return _Error(_db(noise), int(changed), int(samples))

        return measure

    def _tensors(self, panel: Panel, groups: tuple[Group, ...]) -> dict[str, _Tensor]:
        """What rounding does to each group's first activation, on one batch."""
        graph, inputs = self.ready.graph, panel.batches[0].inputs
        axes = {
            linear.tensor: linear.channel_axis
            for linear in linears(graph, self.ready.selection).values()
        }
        names = list(dict.fromkeys(group.tensors[0] for group in groups if group.tensors))
        found = {}
        for start in range(0, len(names), _TAPS_AT_ONCE):
            some = names[start : start + _TAPS_AT_ONCE]
            shown = tapped(graph, [name for name in some if name not in inputs])
            with self.bench.engine(shown) as engine:
                arrays = {**inputs, **engine.infer(inputs)}
                for name in some:
                    found[name] = _tensor(arrays[name], self.amax[name], axes.get(name, -1))
        return found


def _tensor(array: Array, amax: float, axis: int) -> _Tensor:
    wide = np.moveaxis(array.astype(np.float64), axis, -1) if array.ndim else array.reshape(1)
    step = amax / INT8_MAX
    noise = np.square(np.clip(np.rint(wide / step), -INT8_MAX - 1, INT8_MAX) * step - wide)
    total, signal = float(noise.sum()), float(np.square(wide).sum())
    clipped = float(noise[np.abs(wide) > amax + step / 2].sum())
    widths = np.abs(wide).reshape(-1, wide.shape[-1]).max(axis=0, initial=0.0)
    median = float(np.median(widths))
    return _Tensor(
        _db(total / signal) if signal else None,
        100 * clipped / total if total else 0.0,
        tuple(int(channel) for channel in np.argsort(-widths, kind="stable")[:_WIDEST]),
        float(widths.max(initial=0.0)) / median if median else 1.0,
    )


def _on(count: int, chosen: list[int]) -> NDArray[np.bool_]:
    found = np.zeros(count, dtype=bool)
    found[chosen] = True
    return found


def _db(noise: float) -> float | None:
    """SQNR; None where nothing is lost, and a very low figure where all is."""
    if noise <= 0:
        return None
    return float(-10 * np.log10(min(noise, 1e30))) if np.isfinite(noise) else -300.0
