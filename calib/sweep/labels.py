"""What differs between trials, in few words."""

from collections.abc import Mapping, Sequence
from typing import Any

import yaml

_LENGTH = 44


def labels(points: Sequence[Mapping[str, str]]) -> list[str]:
    """A label for each point: the settings that are not the same in all of them."""
    paths = list(dict.fromkeys(path for point in points for path in point))
    differing = [path for path in paths if len({point.get(path) for point in points}) > 1]
    shown = differing or paths
    return [
        ", ".join(_short(path, point[path]) for path in shown if path in point) for point in points
    ]


def _short(path: str, text: str) -> str:
    value = yaml.safe_load(text)
    plain = _plain(value)
    if not _has_kind(value):
        named = [part for part in path.split(".") if not part.isdigit()]
        plain = f"{named[-1]} {plain}"
    return plain if len(plain) <= _LENGTH else f"{plain[: _LENGTH - 1]}…"


def _plain(value: Any) -> str:
    if isinstance(value, dict):
        parts = [str(value["kind"])] if "kind" in value else []
        others = [(k, v) for k, v in value.items() if k != "kind"]
        named = len(others) > 1 or not parts or any(k != parts[0] for k, _ in others)
        parts += [f"{k} {_plain(v)}" if named else _plain(v) for k, v in others]
        return " ".join(parts)
    if isinstance(value, list):
        return " + ".join(map(_plain, value)) or "none"
    if isinstance(value, bool):
        return "on" if value else "off"
    return f"{value:g}" if isinstance(value, float) else str(value)


def _has_kind(value: Any) -> bool:
    items = value if isinstance(value, list) else [value]
    return bool(items) and all(isinstance(item, dict) and "kind" in item for item in items)
