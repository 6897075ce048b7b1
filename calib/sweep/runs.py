"""The finished runs of an experiment, by what they were asked."""

import json
import re
from datetime import datetime
from pathlib import Path
from typing import Any

from calib.config import Experiment
from calib.environment import package_versions
from calib.errors import StoreError
from calib.results import RunResult
from calib.rundir import RUN_IDS, load_result
from calib.store import digest_from_key

_NOT_ASKED = ("execution", "output", "sweep")
"""Parts of a config that change nothing in a result."""


def digest_of(config: dict[str, Any]) -> str:
    """What a run was asked, as a SHA-256."""
    asked = {name: value for name, value in config.items() if name not in _NOT_ASKED}
    # As it is read back: what JSON knows no difference of is the same.
    return digest_from_key(json.loads(json.dumps(asked)))


class FinishedRuns:
    """The runs below an experiment's folder that began no earlier than a time.

    Model, data and code are not looked at: before that time they may have been others.
    """

    def __init__(self, folder: Path, since: str) -> None:
        """Read them.

        Args:
            folder: `reports/<experiment>`.
            since: ISO 8601, to the millisecond.
        """
        self._folder = folder
        self._since = datetime.fromisoformat(since)
        self._seen: set[str] = set()
        self._by_digest: dict[str, RunResult] = {}
        self._by_id: dict[str, RunResult] = {}
        self.refresh()

    def refresh(self) -> None:
        """Read those that are new."""
        found = sorted(self._folder.iterdir()) if self._folder.is_dir() else []
        first = f"{self._since:%Y%m%d-%H%M%S-%f}"[:-3]
        for path in found:
            if path.name in self._seen or path.name < first or not re.fullmatch(RUN_IDS, path.name):
                continue
            self._seen.add(path.name)
            try:
                result = load_result(path)
            except StoreError:  # of another version: the point is tried again
                continue
            if result.environment.packages == package_versions():
                self.add(result)

    def add(self, result: RunResult) -> None:
        """One that was made just now."""
        self._seen.add(result.run_id)
        self._by_id[result.run_id] = result
        self._by_digest.setdefault(digest_of(result.config), result)

    def of(self, experiment: Experiment) -> RunResult | None:
        """The run that was asked just this; None if there is none."""
        return self._by_digest.get(digest_of(experiment.model_dump(mode="json")))

    def named(self, run_id: str) -> RunResult | None:
        """The run of that id; None if it is gone."""
        return self._by_id.get(run_id)
