"""Calibration side by side: calib, onnxruntime's calibrators and ModelOpt, on the same samples.

All get the same ONNX file and the same batches from disk, on all cores, one after another. Each
runs in a process of its own, which also times plain FP32 inference of these batches in its own
runtime: peers before they calibrate, calib in turns of a few batches with calibrating, so that a
machine whose speed changes meanwhile moves both. Peers have virtual environments with pinned
versions, made on first use (benchmarks/peers).
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))

from data_loaders import Batch, Sample, batches  # noqa: E402
from data_loaders.types import Array  # noqa: E402

RATIO_MAX = 1.15
MEMORY_RATIO_MAX = 1.02
BATCH_SIZE_SHIFT_MAX = 1e-5
SIZES = (64, 256, 1024)
BATCH = 16
TURN = 4
"""Batches a turn."""
ROUNDS = {64: 5, 256: 3, 1024: 1}
PEER_MEMORY_MAX = 18e9
"""A peer's run that would need more is not tried; what it would need is said instead."""

METHODS = (
    ("onnxruntime", "MinMax"),
    ("onnxruntime", "Entropy"),
    ("onnxruntime", "Percentile"),
    ("modelopt", "max"),
    ("modelopt", "entropy"),
)


LENGTH = 64


def minilm() -> tuple[Path, Iterator[Sample]]:
    """The BERT example and its calibration documents, cut or padded to one length.

    Batches of unlike lengths are no trouble here, but onnxruntime's histograms fail on them.
    """
    from calib.config import load_experiment
    from data_loaders import data_set_from_spec
    from examples import minilm as example

    path = example.build(max_length=LENGTH, head_documents=4000)
    experiment = load_experiment(
        ROOT / "configs" / "bert_int8.yaml", ["data.calibration.samples=5000"]
    )
    return path, map(_padded, data_set_from_spec(experiment.data.calibration))


def _padded(sample: Sample) -> Sample:
    inputs = {n: np.pad(a, (0, LENGTH - len(a))) for n, a in sample.inputs.items()}
    return replace(sample, inputs=inputs)


def textline() -> tuple[Path, Iterator[Sample]]:
    """The convolutional example on drawn lines of text, 48 x 192 pixels."""
    from examples import textline as example

    return example.model(), example.samples("calibration", 5000)


def resnet50() -> tuple[Path, Iterator[Sample]]:
    """A convolutional net of the size that people calibrate, with drawn weights, 224 x 224."""
    from benchmarks import resnet

    path = resnet.build(ROOT / "build" / "benchmarks")
    return path, (Sample(str(k), {"image": x}) for k, x in enumerate(resnet.images(1024)))


TOOLS = ("calib", "onnxruntime", "modelopt")
MODELS = {"minilm": minilm, "resnet50": resnet50, "textline": textline}


def write_batches(folder: Path, samples: Sequence[Sample], size: int) -> Path:
    """The samples as numbered .npz files of one batch each."""
    folder.mkdir(parents=True)
    for number, batch in enumerate(batches(samples, size)):
        np.savez(folder / f"{number}.npz", **dict(batch.inputs))
    return folder


def in_another_order(folder: Path, source: Path) -> Path:
    """The same batches, shuffled."""
    folder.mkdir(parents=True)
    paths = sorted(source.glob("*.npz"))
    for number, index in enumerate(np.random.default_rng(0).permutation(len(paths))):
        os.link(paths[index], folder / f"{number}.npz")
    return folder


class ChildError(Exception):
    """A process did not end well; its last words."""


def run_child(*arguments: object) -> dict[str, Any]:
    """A process of its own: what it wrote."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "out.json"
        quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.PIPE}
        done = subprocess.run([*map(str, arguments), str(out)], cwd=ROOT, check=False, **quiet)
        if done.returncode:
            killed = f"killed by signal {-done.returncode}, which out of memory means 9"
            raise ChildError(done.stderr.decode().strip()[-3000:] or killed)
        found: dict[str, Any] = json.loads(out.read_text())
        return found


def ours(model: Path, folder: Path, *options: str) -> dict[str, Any]:
    """calib, all calibrators at once."""
    return run_child(sys.executable, __file__, "--child", *options, model, folder)


def peer(name: str, method: str, model: Path, folder: Path) -> dict[str, Any]:
    """Another tool, one method."""
    from benchmarks.peers import HERE, interpreter

    return run_child(interpreter(name), HERE / "calibrate.py", name, method, model, folder)


def child(arguments: Sequence[str]) -> None:
    """Calibrate as calib does, and write what it cost; run in a process of its own."""
    from calib.backends.onnxruntime import OnnxRuntime, OnnxRuntimeSpec
    from calib.calibrators import EntropySpec, MinMaxSpec, MseSpec, PercentileSpec
    from calib.graph.fold import fold_batchnorm
    from calib.graph.load import load_model
    from calib.graph.select import select
    from calib.graph.selection_spec import SelectionSpec
    from calib.graph.taps import taps_from_tensors
    from calib.observe import observe, tapped_engine

    *options, model, folder, out = arguments
    paths = sorted(Path(folder).glob("*.npz"), key=lambda path: int(path.stem))
    graph = fold_batchnorm(load_model(Path(model)).graph)
    tensors = select(graph, SelectionSpec()).activation_tensors
    taps = taps_from_tensors(graph, tensors)
    backend = OnnxRuntime(OnnxRuntimeSpec())
    specs = (
        MinMaxSpec(),
        EntropySpec(),
        PercentileSpec(percentile=99.99),
        PercentileSpec(percentile=99.999),
        MseSpec(),
    )
    rounds = 0 if "--once" in options else ROUNDS.get(len(paths) * BATCH, 1)
    found_seconds: dict[str, list[float]] = defaultdict(list)
    with tempfile.TemporaryDirectory() as scratch, ThreadPoolExecutor(backend.threads) as pool:
        axes = _axes(backend, graph, taps, paths, Path(scratch))
        with (
            tapped_engine(backend, graph, taps, Path(scratch), axes) as engine,
            ExitStack() as stack,
        ):
            # Threads that spin after a run would take the cores from the other's turn.
            plain = (
                stack.enter_context(backend.engine(Path(model), spinning=False)) if rounds else None
            )
            turns = Turns(paths, plain)
            observe(engine, islice(turns, 1), taps, on_batch=_ignore, length_axes=axes)
            [spec.amax(_example()) for spec in specs]
            for _ in range(max(rounds, 1)):
                turns.plain_seconds = 0.0
                seen = observe(
                    engine,
                    iter(turns),
                    taps,
                    on_batch=_ignore,
                    length_axes=axes,
                    threads=backend.threads,
                )
                begin = time.perf_counter()
                whole = {name: parts.whole() for name, parts in seen.parts.items()}
                pairs = [(spec.name, spec, s) for spec in specs for s in whole.values()]
                found = list(pool.map(lambda pair: pair[1].amax(pair[2]), pairs))
                found_seconds["threshold_seconds"].append(time.perf_counter() - begin)
                found_seconds["inference_seconds"].append(turns.plain_seconds)
                found_seconds["pass_seconds"].append(seen.seconds - turns.plain_seconds)
                found_seconds["tapped_inference_seconds"].append(seen.inference_seconds)
    status = Path("/proc/self/status").read_text()
    peak = next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM"))
    facts = {
        **found_seconds,
        "peak_bytes": peak * 1024,
        "values": sum(s.count for s in whole.values()),
        "amax": {f"{n}:{s.name}": value for (n, _, s), value in zip(pairs, found, strict=True)},
    }
    Path(out).write_text(json.dumps(facts))


def _ignore(_: int) -> None:
    pass


def _example() -> Any:
    from calib.calibrators import statistics_from_array

    return statistics_from_array("x", np.random.default_rng(0).normal(size=1000))


class Turns:
    """The batches, and before every few of them plain inference of the same, timed."""

    def __init__(self, paths: Sequence[Path], plain: Any) -> None:
        self._paths = paths
        self._plain = plain
        self.plain_seconds = 0.0

    def __iter__(self) -> Iterator[tuple[int, Batch]]:
        for number, path in enumerate(self._paths):
            if self._plain is not None and number % TURN == 0:
                begin = time.perf_counter()
                for one in self._paths[number : number + TURN]:
                    self._plain.infer(_batch(one).inputs)
                self.plain_seconds += time.perf_counter() - begin
            yield number, _batch(path)


def _batch(path: Path) -> Batch:
    inputs = dict(np.load(path))
    count = len(next(iter(inputs.values())))
    mask = inputs.get("attention_mask")
    real = mask.astype(bool) if mask is not None and not mask.all() else None
    return Batch((Sample("", {}),) * count, inputs, real)


def _axes(
    backend: Any, graph: Any, taps: Sequence[Any], paths: Sequence[Path], folder: Path
) -> Mapping[str, tuple[int, ...]]:
    """As the observing stage finds them: from the shapes of two samples of unlike length."""
    from calib.graph.save import save_model
    from calib.graph.taps import sized
    from calib.observe import length_axes

    inputs = dict(np.load(paths[0]))
    if "attention_mask" not in inputs:
        return {}
    inner = [tap.source for tap in taps if not tap.is_input]
    save_model(sized(graph, inner), folder / "sized.onnx")
    shapes: list[Mapping[str, Array]] = []
    with backend.engine(folder / "sized.onnx") as engine:
        for length in (5, 9):
            feed = {name: array[:1, :length] for name, array in inputs.items()}
            shapes.append(dict(zip(inner, engine.infer(feed).values(), strict=True)))
    return length_axes((5, 9), (shapes[0], shapes[1]))


def largest_shift(one: Mapping[str, float], two: Mapping[str, float]) -> float:
    """Largest relative difference of a threshold that both found."""
    pairs = [(one[name], two[name]) for name in one.keys() & two.keys()]
    return max((abs(a - b) / max(abs(a), abs(b)) for a, b in pairs if a or b), default=0.0)


def our_row(model: Path, folder: Path) -> dict[str, float]:
    """Seconds and ratios of calib, the median of the rounds' ratios."""
    found = ours(model, folder)
    plain = np.array(found["inference_seconds"])
    passes = np.array(found["pass_seconds"])
    whole = passes + np.array(found["threshold_seconds"])
    return {
        "inference": float(np.median(plain)),
        "seconds": float(np.median(whole)),
        "pass_ratio": float(np.median(passes / plain)),
        "tapped_ratio": float(np.median(np.array(found["tapped_inference_seconds"]) / plain)),
        "ratio": float(np.median(whole / plain)),
        "peak_mb": found["peak_bytes"] / 1e6,
        "values": found["values"],
    }


@dataclass(frozen=True)
class Workload:
    """A model and its batches: by number of samples; and of the fewest, otherwise batched."""

    name: str
    model: Path
    folders: dict[int, Path]
    other: dict[str, Path]


def workload(name: str, scratch: Path) -> Workload:
    """Build the model and write the batches."""
    model, source = MODELS[name]()
    samples = list(islice(source, max(SIZES)))
    folders = {n: write_batches(scratch / name / str(n), samples[:n], BATCH) for n in SIZES}
    other = {
        "order": in_another_order(scratch / name / "order", folders[SIZES[0]]),
        "batch": write_batches(scratch / name / "batch", samples[: SIZES[0]], BATCH // 2),
    }
    return Workload(name, model, folders, other)


def our_rows(load: Workload) -> list[dict[str, Any]]:
    """Calib's rows, and how far its thresholds move."""
    rows: list[dict[str, Any]] = []
    for count, folder in load.folders.items():
        row = {"model": load.name, "tool": "calib", "method": "all five", "samples": count}
        rows.append({**row, **our_row(load.model, folder)})
        _say(rows[-1])
    base = ours(load.model, load.folders[SIZES[0]], "--once")
    rows[0] |= _shifts(base, load.other, lambda f: ours(load.model, f, "--once"))
    return rows


def peer_rows(load: Workload, tool: str, method: str) -> Iterator[dict[str, Any]]:
    """The rows of one method of another tool."""
    peaks: dict[int, float] = {}
    for count, folder in load.folders.items():
        row = {"model": load.name, "tool": tool, "method": method, "samples": count}
        needed = _extrapolated(peaks, count)
        if needed > PEER_MEMORY_MAX:
            yield {**row, "peak_mb": needed / 1e6, "skipped": True}
            continue
        try:
            found = peer(tool, method, load.model, folder)
        except ChildError as error:
            yield {**row, "failed": str(error).splitlines()[-1]}
            continue
        peaks[count] = found["peak_bytes"]
        row |= {
            "inference": found["inference_seconds"],
            "seconds": found["seconds"],
            "ratio": found["seconds"] / found["inference_seconds"],
            "peak_mb": found["peak_bytes"] / 1e6,
        }
        if count == SIZES[0]:
            row |= _shifts(found, load.other, lambda f: peer(tool, method, load.model, f))
        yield row


def _shifts(base: dict[str, Any], other: Mapping[str, Path], again: Any) -> dict[str, float]:
    return {
        f"{kind}_shift": largest_shift(base["amax"], again(folder)["amax"])
        for kind, folder in other.items()
    }


def _extrapolated(peaks: Mapping[int, float], count: int) -> float:
    """Memory for so many samples, on a line through the last two measurements."""
    if len(peaks) < 2:
        return 0.0
    (n1, m1), (n2, m2) = list(peaks.items())[-2:]
    return m2 + (m2 - m1) / (n2 - n1) * (count - n2)


def memory(name: str, scratch: Path) -> dict[str, float]:
    """Calib's peak at 256 samples, and at 4,096: the same ones again and again."""
    model, source = MODELS[name]()
    samples = list(islice(source, 256))
    peaks = {}
    for count in (256, 4096):
        repeated = [samples[k % len(samples)] for k in range(count)]
        folder = write_batches(scratch / f"{name}-memory" / str(count), repeated, BATCH)
        peaks[count] = ours(model, folder, "--once")["peak_bytes"]
    return {
        f"{name}_peak_mb_256": peaks[256] / 1e6,
        f"{name}_peak_mb_4096": peaks[4096] / 1e6,
        f"{name}_memory_ratio": peaks[4096] / peaks[256],
    }


def _figures(name: str, rows: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    return {
        f"{name}_ratio": rows[-1]["ratio"],
        f"{name}_tapped_ratio": rows[-1]["tapped_ratio"],
        f"{name}_order_shift": rows[0]["order_shift"],
        f"{name}_batch_shift": rows[0]["batch_shift"],
    }


def _say(row: Mapping[str, Any]) -> None:
    print("  ".join(f"{k} {_number(v)}" for k, v in row.items()), flush=True)


def _number(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def table(rows: Sequence[Mapping[str, Any]]) -> str:
    """The rows as Markdown."""
    lines = [
        "| model | tool | method | samples | inference, s | calibration, s | ratio | peak, MB "
        "| moved by order | moved by batch size |",
        "|---|---|---|--:|--:|--:|--:|--:|--:|--:|",
    ]
    for row in rows:
        cells = [row["model"], row["tool"], row["method"], f"{row['samples']:,}"]
        if row.get("failed"):
            cells += ["", f"failed: {row['failed']}", "", "", "", ""]
        elif row.get("skipped"):
            cells += ["", "not tried", "", f"about {row['peak_mb']:,.0f}", "", ""]
        else:
            cells += [f"{row['inference']:.2f}", f"{row['seconds']:.2f}", f"{row['ratio']:.2f}"]
            cells += [f"{row['peak_mb']:,.0f}"]
            cells += [_shift(row.get(f"{kind}_shift")) for kind in ("order", "batch")]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def _shift(value: float | None) -> str:
    if value is None:
        return ""
    return "0" if value == 0 else f"{value:.1e}"


def main() -> None:
    """Measure; with --check hold calib's figures against the targets."""
    if sys.argv[1:2] == ["--child"]:
        child(sys.argv[2:])
        return
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="exit 1 when a target is missed")
    parser.add_argument("--tools", nargs="+", choices=TOOLS, default=TOOLS)
    parser.add_argument("--models", nargs="+", choices=MODELS, default=list(MODELS))
    options = parser.parse_args()
    if options.check and "calib" not in options.tools:
        parser.error("--check has nothing to check without --tools calib")
    rows, figures = [], {}
    with tempfile.TemporaryDirectory() as folder:
        for name in options.models:
            load = workload(name, Path(folder))
            if "calib" in options.tools:
                own = our_rows(load)
                rows += own
                figures |= _figures(name, own) | memory(name, Path(folder))
            for tool, method in METHODS:
                if tool in options.tools:
                    for row in peer_rows(load, tool, method):
                        rows.append(row)
                        _say(row)
    print(table(rows))
    limits = {
        "ratio": RATIO_MAX,
        "order_shift": 0.0,
        "batch_shift": BATCH_SIZE_SHIFT_MAX,
        "memory_ratio": MEMORY_RATIO_MAX,
    }
    missed = [
        f"{name}_{figure}"
        for name in options.models
        for figure, limit in limits.items()
        if options.check and figures[f"{name}_{figure}"] > limit
    ]
    for name in missed:
        print(f"target missed: {name} = {figures[name]:.4g}")
    print(json.dumps({name: float(f"{value:.4g}") for name, value in figures.items()}))
    sys.exit(1 if options.check and missed else 0)


if __name__ == "__main__":
    main()
