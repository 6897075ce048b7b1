"""Configs that are almost right: a few mutations of a valid one, in its values or its text."""

import copy
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml

from benchmarks.robust import workspace
from calib.config import load_experiment

PWNED = "pwned"
"""A file that code hidden in a config would make."""

_VALUES: tuple[Any, ...] = (
    None,
    True,
    -1,
    0,
    2**31,
    2**63,
    10**400,
    1e308,
    float("nan"),
    float("inf"),
    -0.0,
    "",
    " ",
    "0",
    "auto",
    "a\0b",
    "\x1b[2J\x1b]0;owned\x07",
    "<script>alert(1)</script>",
    "=cmd|' /C calc'!A0",
    "[bold red]:x:[/]",
    "\u202egnp.exe",
    "Größe 数 🙂",
    "../../../etc/passwd",
    "/dev/zero",
    "/proc/self/mem",
    "/",
    ".",
    "~",
    "a" * 100_000,
    "{x}",
    "%s%n",
    "\ufeff",
    [],
    {},
    [[]],
    [None, 1, "a", {}],
    {"kind": None},
    {"kind": "onnx"},
    {"kind": ["auto"]},
    {"": ""},
    {1: 2, None: 3, 1.5: 4},
)

_TEXTS: tuple[str, ...] = (
    f'!!python/object/apply:os.system ["touch {PWNED}"]',
    f'!!python/object/new:os.system ["touch {PWNED}"]',
    "!!python/name:os.system",
    "!!python/tuple [1, 2]",
    "!custom {a: 1}",
    "!!binary '%%%'",
    "!!binary aGFsbG8=",
    "!!timestamp nonsense",
    "2026-99-99",
    "2026-11-25",
    "2026-11-25T25:61:61Z",
    "!!int abc",
    "!!float abc",
    "!!bool maybe",
    "!!null something",
    "!!set {a, b}",
    "!!set [a]",
    "!!omap [a: 1]",
    "!!omap 5",
    "!!pairs [a: 1, a: 2]",
    "!!str {a: b}",
    "!!map [1]",
    "!!seq {a: 1}",
    "0x" + "f" * 5000,
    "9" * 5000,
    "0o9",
    "190:20:30",
    "1e999999",
    "1_000",
    ".NaN",
    "&a [*a]",
    "&a {b: *a}",
    "*nowhere",
    "&a &b c",
    "{<<: 5}",
    "{<<: [1, 2]}",
    "{<<: {a: 1}, a: 2}",
    "{a: 1, a: 2}",
    "{[1, 2]: 3}",
    "{{a: 1}: 3}",
    "{? [a, b] : c}",
    "[" * 3000 + "]" * 3000,
    "{a: " * 2000 + "1" + "}" * 2000,
    '"\\x00"',
    '"\\ud800"',
    '"\\U0010ffff"',
    "'unended",
    "|\n  block\n text",
    "\x00",
    "\x07",
    "\t- a",
    "@a",
    "`a`",
    "%YAML 9.9",
    "--- a\n--- b",
    "...",
    "? ",
    "- - - -",
    "!",
    "!<",
    "!!",
    "&",
    "*",
)


def _bomb(rng: random.Random) -> str:
    """Ten to the power of nine (or more) references, in a few lines."""
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    depth = rng.randrange(9, 30)
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, depth)]
    return "\n".join(lines) + "\n"


def _merge_bomb(rng: random.Random) -> str:
    lines = ["b0: &b0 {k: v}"]
    depth = rng.randrange(10, 40)
    lines += [f"b{n}: &b{n} {{<<: [{', '.join([f'*b{n - 1}'] * 9)}]}}" for n in range(1, depth)]
    return "\n".join(lines) + "\n"


def bases(folder: Path) -> list[dict[str, Any]]:
    """Valid configs, with every field that there is written out."""
    full = load_experiment(folder / "config.yaml").model_dump(mode="json")
    images, text, remedied, tensorrt = (copy.deepcopy(full) for _ in range(4))
    for split in ("calibration", "validation"):
        images["data"][split] = {
            "kind": "images",
            "path": "images",
            "input_name": "x",
            "height": 4,
            "width": 4,
            "resize": "fit_pad",
            "channels": "gray",
            "mean": [0.5],
            "std": [0.25],
        }
        text["data"][split] = {
            "kind": "text",
            "rows": {"kind": "file", "path": "rows.jsonl"},
            "tokenizer": "tokenizer.json",
            "inputs": ["input_ids"],
            "max_length": 8,
        }
    remedied["quantization"] = "auto"
    remedied["model"] = {"kind": "python", "entry": "nowhere:build", "args": {"a": 1}}
    tensorrt["backend"] = {"kind": "tensorrt_rtx", "profiles": {"x": {"min": [1, 2]}}}
    return [full, full, full, workspace.config(), images, text, remedied, tensorrt]


def fuzzed(base: dict[str, Any], rng: random.Random) -> bytes:
    """The text of a mutated config."""
    content = copy.deepcopy(base)
    for _ in range(rng.choice((0, 1, 1, 1, 2, 3))):
        rng.choice(_CONTENT)(content, rng)
    data = yaml.safe_dump(content, sort_keys=False, allow_unicode=rng.random() < 0.5).encode(
        errors="replace"
    )
    for _ in range(rng.choice((0, 0, 0, 1, 2))):
        data = rng.choice(_BYTES)(data, rng)
    return data


def _places(node: Any) -> list[tuple[Any, Any]]:
    """Every (container, key) below a node."""
    items = node.items() if isinstance(node, dict) else enumerate(node)
    found: list[tuple[Any, Any]] = []
    for key, value in list(items):
        found.append((node, key))
        if isinstance(value, dict | list):
            found += _places(value)
    return found


def _value(content: Any, rng: random.Random) -> None:
    node, key = rng.choice(_places(content))
    node[key] = copy.deepcopy(rng.choice(_VALUES))


def _number(content: Any, rng: random.Random) -> None:
    numbers = [(n, k) for n, k in _places(content) if isinstance(n[k], int | float)]
    if numbers:
        node, key = rng.choice(numbers)
        huge = (2**31, 2**40, 2**62, 2**64, 10**30, -(10**30), 1e300, 5e-324, 1.5, -1)
        node[key] = rng.choice(huge)


def _removed(content: Any, rng: random.Random) -> None:
    node, key = rng.choice(_places(content))
    del node[key]


def _renamed(content: Any, rng: random.Random) -> None:
    node, key = rng.choice(_places(content))
    if isinstance(node, dict):
        value = node.pop(key)
        node[rng.choice((f"{key}s", str(key).upper(), 7, None, "\x1b[31m", 1.5, ""))] = value


def _nested(content: Any, rng: random.Random) -> None:
    node, key = rng.choice(_places(content))
    for _ in range(rng.choice((1, 2, 50, 100))):
        node[key] = [node[key]] if rng.random() < 0.5 else {"a": node[key]}


def _swapped(content: Any, rng: random.Random) -> None:
    (one, a), (two, b) = rng.choice(_places(content)), rng.choice(_places(content))
    one[a] = copy.deepcopy(two[b])


def _line(data: bytes, rng: random.Random) -> bytes:
    """Another value, in YAML's own words, at the end of a line with one."""
    lines = data.split(b"\n")
    filled = [n for n, line in enumerate(lines) if b": " in line]
    if filled:
        number = rng.choice(filled)
        key = lines[number].partition(b": ")[0]
        lines[number] = key + b": " + rng.choice(_TEXTS).encode(errors="replace")
    return b"\n".join(lines)


def _flipped(data: bytes, rng: random.Random) -> bytes:
    changed = bytearray(data)
    for _ in range(rng.randrange(1, 6)):
        if changed:
            changed[rng.randrange(len(changed))] = rng.randrange(256)
    return bytes(changed)


_CONTENT: tuple[Callable[[Any, random.Random], None], ...] = (
    _value,
    _value,
    _number,
    _number,
    _removed,
    _renamed,
    _nested,
    _swapped,
)
_BYTES: tuple[Callable[[bytes, random.Random], bytes], ...] = (
    _line,
    _line,
    _line,
    _flipped,
    lambda data, rng: data[: rng.randrange(len(data) + 1)],
    lambda data, rng: _bomb(rng).encode() + data,
    lambda data, rng: data + _merge_bomb(rng).encode(),
    lambda data, rng: data + data[rng.randrange(len(data) + 1) :],
    lambda data, _: data.decode(errors="replace").encode("utf-16"),
    lambda data, _: b"\xef\xbb\xbf" + data,
    lambda data, rng: data[: (k := rng.randrange(len(data) + 1))] + b"\0" + data[k:],
    lambda data, _: data.replace(b"  ", b"\t"),
    lambda data, _: data.replace(b"\n", b"\r"),
)
