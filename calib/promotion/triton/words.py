"""What `promote` says that it does in a Triton repository, and what a reader must know."""

from collections.abc import Iterator
from pathlib import Path

from calib.promotion.triton.config import Facts, config_of
from calib.promotion.triton.schema import CONFIG_NAME, schema

_EXACT = "session.x64quantprecision"


def changes(facts: Facts, folder: Path, replaced: int | None) -> Iterator[str]:
    """What is written, a line each."""
    files, version = facts.served.files, facts.version
    yield f"{folder / str(version)}: {', '.join(sorted(files))}"
    if facts.warmup.files is not None:
        yield f"{folder / 'warmup' / str(version)}: {len(facts.warmup.files)} inputs of a sample"
    instead = "" if replaced is None else f" instead of {replaced}, which stays for a rollback"
    yield f"{folder / CONFIG_NAME}: {_summary(facts)}; version {version}{instead}"


def _summary(facts: Facts) -> str:
    found, config = facts.batching, config_of(facts)
    group = config.instance_group[0]
    kind = schema().ModelInstanceGroup.Kind.Name(group.kind)
    if not found.max_size:
        batches = f"no batching, since {found.why_not}"
    else:
        wait = f"waiting {found.delay_us} µs at most" if found.delay_us else "no waiting"
        wanted = ", ".join(map(str, found.preferred)) or "none"
        batches = f"batches up to {found.max_size}, preferred {wanted}, {wait}"
    return f"{facts.served.backend}, {group.count} {kind}, {batches}"


def remarks(facts: Facts) -> Iterator[str]:
    """What the server does otherwise than the run did."""
    lost = facts.served.lost_entries
    if _EXACT in lost:
        yield (
            f"mind: the run asked ONNX Runtime for exact 8-bit sums ({_EXACT}), which Triton's "
            "backend cannot: serve it on a processor with VNNI or AMX, or quantize with "
            "reduce_range"
        )
    for key in sorted(lost.keys() - {_EXACT}):
        yield f"not passed on, for want of a parameter of Triton's backend: {key}={lost[key]}"
    for spec in (*facts.ends.inputs, *facts.ends.outputs):
        if spec.name in facts.ends.shapeless and not spec.shape:
            yield f"{spec.name} has no shape in the file: Triton tells clients [1]"
    if not facts.warmup.shapes:
        yield "no warm-up: the first request to each instance will be slow"
    elif facts.warmup.files is None:
        yield "warm-up with zeros: the run kept no batch of the calibration data"
