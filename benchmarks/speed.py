"""Speed side by side on ONNX Runtime: FP32, FP16, calib's two layouts, and the peers.

All engines of a model take turns in every round, each with the session options that it is meant to
run with; the ratio to FP32 has a paired bootstrap interval. Accuracy beside it is that of the very
session that is timed: kernels that overflow show it.
"""

import argparse
import json
import shutil
import sys
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))

from benchmarks.accuracy_quantized import NATIVE, OURS, REMEDIES, by_calib, by_peer  # noqa: E402
from benchmarks.accuracy_scores import rows_of  # noqa: E402
from benchmarks.measure import sqnr_db  # noqa: E402
from benchmarks.models import MODELS, ModelCase, resnet50  # noqa: E402
from calib.analysis.speedup import Speedup, paired_speedup  # noqa: E402
from calib.analysis.throughput import time_engines, warm_up  # noqa: E402
from calib.backends.onnxruntime import OnnxRuntimeEngine  # noqa: E402
from calib.backends.processor import (  # noqa: E402
    prefers_unsigned,
    processor_flags,
    sums_bytes_exactly,
)
from calib.graph.fp16 import to_fp16  # noqa: E402
from calib.graph.load import load_model  # noqa: E402
from calib.graph.read import read_graph  # noqa: E402
from calib.graph.save import save_model  # noqa: E402
from calib.graph.unsigned import with_unsigned_activations  # noqa: E402

TIMED = {
    **MODELS,
    "resnet50": ModelCase("resnet50", "conv", "classification", resnet50.build),
}
"""Drawn weights tell nothing of accuracy on a task, but all of speed."""
CASES = ("minilm_newsgroups", "mobile_conv", "resnet50", "textline")
PEERS = (
    ("onnxruntime", "MinMax"),
    ("onnxruntime", "MinMax-weighted"),
    ("modelopt", "max"),
    ("nncf", "performance"),
    ("nncf", "mixed"),
)
OWN = ("minmax", "auto", f"{NATIVE}minmax", f"{NATIVE}{REMEDIES}", f"{NATIVE}auto")
BATCHES = (1, 16)
COMPARED = 256
"""Validation samples for the SQNR."""
INTEGER = ("QLinearConv", "QLinearMatMul", "MatMulIntegerToFloat", "QGemm", "ConvInteger")
INTEGER_OTHERS = ("MatMulInteger", "DynamicQuantizeMatMul", "QAttention")
FLOAT = ("Conv", "FusedConv", "ConvTranspose", "MatMul", "FusedMatMul", "Gemm", "FusedGemm")
_TARGETS = {"amx": 2.1, "vnni": 1.8, "none": 1.3}
_JUDGED = ("minilm_newsgroups", "mobile_conv")


@dataclass(slots=True)
class Engine:
    """One way to run a model.

    Attributes:
        name: tool and method, or precision.
        path: its ONNX file.
        exact: whether to ask for kernels that do not overflow.
        times: milliseconds by batch size, a round each.
        sqnr: to FP32, in dB, in the session that is timed.
        integer: share of its weighted operators that the runtime made integer.
    """

    name: str
    path: Path
    exact: bool = False
    times: dict[int, Sequence[float]] = field(default_factory=dict)
    sqnr: float = float("inf")
    integer: float = 0.0

    def open(self, threads: int, optimized: Path | None = None) -> ort.InferenceSession:
        """A session, and the graph that the runtime made if `optimized` says where to."""
        options = ort.SessionOptions()
        options.intra_op_num_threads = threads
        options.log_severity_level = 4
        # Engines take turns: threads that spin after one's run would slow the next one down.
        options.add_session_config_entry("session.force_spinning_stop", "1")
        if self.exact:
            options.add_session_config_entry("session.x64quantprecision", "1")
        if optimized is not None:
            options.optimized_model_filepath = str(optimized)
        return ort.InferenceSession(str(self.path), options, providers=["CPUExecutionProvider"])


def engines_of(
    case: ModelCase, folder: Path, work: Path, options: argparse.Namespace
) -> Iterator[Engine]:
    """FP32, FP16, ours and the peers'; what cannot be made is said and left out."""
    exact = not sums_bytes_exactly()
    yield Engine("fp32", folder / "model.onnx")
    half = work / "fp16.onnx"
    save_model(to_fp16(load_model(folder / "model.onnx").graph)[0], half)
    yield Engine("fp16 (emulated)", half)
    for method in options.ours:
        made = by_calib(case, folder, method, False, options.timeout)
        if made.error:
            print(f"{case.name}: calib {method}: {made.error}", file=sys.stderr)
            continue
        path = made.model
        if not method.startswith(NATIVE) and prefers_unsigned():
            path = work / f"{OURS}-{method}-unsigned.onnx"
            save_model(with_unsigned_activations(read_graph(made.model)), path)
        yield Engine(f"{OURS} {method}", path, exact)
    yield Engine("onnxruntime dynamic", _dynamic(folder, work))
    for name in options.peers:
        tool, method = name.split(":")
        made = by_peer(case, folder, tool, method, False, options.timeout)
        if made.error:
            print(f"{case.name}: {tool} {method}: {made.error}", file=sys.stderr)
            continue
        yield Engine(f"{tool} {method}", made.model)


def _dynamic(folder: Path, work: Path) -> Path:
    from onnxruntime.quantization import QuantType, quantize_dynamic

    target = work / "dynamic.onnx"
    quantize_dynamic(folder / "model.onnx", target, weight_type=QuantType.QUInt8)
    return target


def measured(case: ModelCase, options: argparse.Namespace) -> list[Engine]:
    """Every engine of a model, timed in turns."""
    folder = case.build()
    work = folder / "speed"
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir()
    running: dict[str, ort.InferenceSession] = {}
    engines = []
    for engine in engines_of(case, folder, work, options):
        graph = work / "optimized.onnx"
        try:
            running[engine.name] = engine.open(options.threads, graph)
        except Exception as error:  # ONNX Runtime's errors have no common base
            print(f"{case.name}: {engine.name} does not load: {error}", file=sys.stderr)
            continue
        engine.integer = integer_share(graph)
        engines.append(engine)
    names = [value.name for value in running["fp32"].get_inputs()]
    feeds = {name: next(rows_of(folder / "validation.npz", name, COMPARED)) for name in names}
    wanted = _all(running["fp32"], feeds)
    for engine in engines[1:]:
        engine.sqnr = sqnr_db(wanted, _all(running[engine.name], feeds))
    for size in options.batches:
        batch = {name: array[:size] for name, array in feeds.items()}
        ready = {name: OnnxRuntimeEngine(running[name]) for name in (e.name for e in engines)}
        warm_up(ready, batch, runs_min=1, runs_max=options.rounds, seconds_max=20, tolerance_pct=5)
        times = time_engines(ready, batch, runs=options.rounds, seconds_max=float("inf"))
        for engine in engines:
            engine.times[size] = times[engine.name]
    return engines


def _all(session: ort.InferenceSession, feeds: Mapping[str, Any]) -> Any:
    count = len(next(iter(feeds.values())))
    starts = range(0, count, BATCHES[-1])
    parts = [
        session.run(None, {n: a[s : s + BATCHES[-1]] for n, a in feeds.items()})[0] for s in starts
    ]
    return np.concatenate(parts)


def integer_share(optimized: Path) -> float:
    """Of the operators with weights or two activations that ran, those in integers, by number."""
    counts = Counter(n.op_type for n in onnx.load(optimized, load_external_data=False).graph.node)
    integer = sum(counts[name] for name in (*INTEGER, *INTEGER_OTHERS))
    return integer / max(integer + sum(counts[name] for name in FLOAT), 1)


def speedups(engines: list[Engine]) -> dict[str, dict[int, Speedup]]:
    """Over FP32, by engine and batch size."""
    fp32 = engines[0]
    found: dict[str, dict[int, Speedup]] = {}
    for engine in engines:
        pairs = {size: paired_speedup(t, fp32.times[size]) for size, t in engine.times.items()}
        found[engine.name] = {size: pair for size, pair in pairs.items() if pair is not None}
    return found


def table(case: ModelCase, engines: list[Engine]) -> str:
    """One model as Markdown."""
    sizes = list(engines[0].times)
    head = "".join(f" ms at {size} | x FP32 (95 %) |" for size in sizes)
    lines = [case.name, "", f"| engine | SQNR, dB | integer ops % |{head}"]
    lines.append(f"|---|--:|--:|{'--:|--:|' * len(sizes)}")
    for engine in engines:
        found = speedups(engines)[engine.name]
        cells = "".join(
            f" {np.median(engine.times[size]):.2f} | {_shown(found[size])} |" for size in sizes
        )
        lines.append(f"| {engine.name} | {engine.sqnr:.1f} | {100 * engine.integer:.0f} |{cells}")
    return "\n".join(lines)


def _shown(found: Speedup) -> str:
    if found.low is None:
        return f"{found.ratio:.2f}"
    return f"{found.ratio:.2f} ({found.low:.2f} to {found.high:.2f})"


def processor_class() -> str:
    """What the targets depend on."""
    flags = processor_flags()
    if "amx_int8" in flags:
        return "amx"
    return "vnni" if sums_bytes_exactly() else "none"


def missed(case: ModelCase, engines: list[Engine], size: int) -> Iterator[str]:
    """The targets that a model misses at a batch size."""
    found = {name: pairs[size].ratio for name, pairs in speedups(engines).items()}
    ours = {e.name: e for e in engines if e.name.startswith(f"{OURS} {NATIVE}")}
    peers = [e for e in engines if e.name.split()[0] in ("onnxruntime", "modelopt", "nncf")]
    if not ours:
        return
    best = max(ours, key=lambda name: found[name])
    target = _TARGETS[processor_class()]
    if case.name in _JUDGED and found[best] < target:
        yield f"{case.name}: {best} is {found[best]:.2f} x FP32, not {target}"
    for name, engine in ours.items():
        if engine.integer < 0.95:
            yield f"{case.name}: {name} has {100 * engine.integer:.0f} % integer operators, not 95"
        for peer in peers:
            if peer.sqnr >= engine.sqnr and found[peer.name] > found[name]:
                yield f"{case.name}: {peer.name} is as accurate as {name}, and faster"


def main() -> None:
    """Measure, print, and judge."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--models", nargs="+", choices=TIMED, default=list(CASES))
    parser.add_argument("--ours", nargs="+", choices=OWN, default=list(OWN))
    peers = [":".join(pair) for pair in PEERS]
    parser.add_argument("--peers", nargs="*", choices=peers, default=peers)
    parser.add_argument("--batches", nargs="+", type=int, default=list(BATCHES))
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--timeout", type=float, default=900.0, help="seconds for one tool")
    parser.add_argument("--check", action="store_true", help="exit 1 when a target is missed")
    options = parser.parse_args()
    problems, figures = [], {}
    for name in options.models:
        case = TIMED[name]
        engines = measured(case, options)
        print(table(case, engines), end="\n\n", flush=True)
        problems += missed(case, engines, options.batches[-1])
        figures[name] = {
            engine: [round(pairs[size].ratio, 2) for size in options.batches]
            for engine, pairs in speedups(engines).items()
        }
    for problem in problems:
        print(f"target missed: {problem}")
    print(json.dumps({"processor": processor_class(), **figures}))
    sys.exit(1 if options.check and problems else 0)


if __name__ == "__main__":
    main()
