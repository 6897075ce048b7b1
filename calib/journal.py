"""What a long stage has measured so far, so that one that was broken off goes on from there."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path


class Journal:
    """Figures by name in a file that grows by a line each; a line that was cut off is left out."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._known: dict[str, list[float]] = {}
        self._cut_off = False
        if path.exists():
            text = path.read_text(encoding="utf-8", errors="replace")
            self._cut_off = bool(text) and not text.endswith("\n")
            for line in text.splitlines():
                try:
                    name, figures = json.loads(line)
                    self._known[str(name)] = [float(figure) for figure in figures]
                except (ValueError, TypeError):
                    continue

    def once(self, name: str, measure: Callable[[], Sequence[float]]) -> list[float]:
        """The figures of that name: from the file, or measured now and written to it."""
        if name not in self._known:
            self._known[name] = [float(figure) for figure in measure()]
            self._path.parent.mkdir(parents=True, exist_ok=True)
            with self._path.open("a", encoding="utf-8") as file:
                # A line that follows one that was cut off would be lost with it.
                start, self._cut_off = "\n" if self._cut_off else "", False
                file.write(start + json.dumps([name, self._known[name]]) + "\n")
        return self._known[name]

    def close(self) -> None:
        """The stage is finished: nothing has to be known any more."""
        self._path.unlink(missing_ok=True)
