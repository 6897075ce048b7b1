"""ONNX files that are broken: bytes that changed, and graphs that no exporter would write."""

import random
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from benchmarks.robust import workspace
from benchmarks.robust.onnx_graphs import MUTATIONS


def broken_model(path: Path, rng: random.Random) -> None:
    """Write a broken model over the one that is there."""
    model = rng.choice((workspace.mlp, workspace.convolutional))()
    data = b""
    if rng.random() < 0.7:
        for _ in range(rng.choice((1, 1, 2))):
            # What another mutation took away cannot be changed.
            with suppress(IndexError):
                rng.choice(MUTATIONS)(model, rng)
        data = model.SerializeToString()
        if rng.random() < 0.15:
            data = rng.choice(_BYTES)(data, rng)
    else:
        data = rng.choice(_BYTES)(model.SerializeToString(), rng)
    path.write_bytes(data)


def _flipped(data: bytes, rng: random.Random) -> bytes:
    changed = bytearray(data)
    for _ in range(rng.choice((1, 2, 8, 64))):
        changed[rng.randrange(len(changed))] ^= 1 << rng.randrange(8)
    return bytes(changed)


def _flipped_structure(data: bytes, rng: random.Random) -> bytes:
    """Bits of names, types and lengths: the bytes that are not weights."""
    changed = bytearray(data)
    weights = data.find(b"w1") if b"w1" in data else len(data) // 2
    spots = [*range(min(weights, 600)), *range(len(data) - 200, len(data))]
    for _ in range(rng.choice((1, 1, 2, 4))):
        changed[rng.choice(spots)] ^= 1 << rng.randrange(8)
    return bytes(changed)


_BYTES: tuple[Callable[[bytes, random.Random], bytes], ...] = (
    _flipped,
    _flipped_structure,
    _flipped_structure,
    lambda data, rng: data[: rng.randrange(len(data))],
    lambda data, rng: data[: -rng.randrange(1, 40)],
    lambda data, rng: data + rng.randbytes(rng.randrange(1, 400)),
    lambda data, _: data + data,
    lambda data, rng: data[rng.randrange(1, 60) :],
    lambda data, _: data.replace(b"logits", b"log\xff\xfes"),
    lambda data, _: data.replace(b"relu", b"re\x00\x1b"),
    lambda _, rng: rng.randbytes(rng.randrange(0, 3000)),
    lambda _, __: b"\x80\x05cos\nsystem\n(Vtouch pwned\ntR.",
)
