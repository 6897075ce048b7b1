"""A split's first reading: what is in it, found here or, if that takes long, by several workers."""

import json
import time
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter

from calib.execution import Work
from calib.progress import Advance
from calib.stages.splits import Origin
from calib.stages.workbench import Workbench
from calib.store import write_atomically
from data_loaders import Reading, Scan, read
from data_loaders.base import repeated_id

ALONE_SECONDS = 10.0
"""So long this process reads by itself: workers take seconds to start, and most data less."""

_HANDLER = "calib.stages.scanning:read_stretch"


@dataclass(frozen=True, slots=True)
class StretchRequest:
    """What a worker reads.

    Attributes:
        origin: the data.
        begin: number of its first sample.
        end: number of the one behind its last.
        where: the split's name in messages.
    """

    origin: Origin
    begin: int
    end: int
    where: str


_REQUEST = TypeAdapter(StretchRequest)


def scanned(bench: Workbench | None, origin: Origin, data: Any, where: str) -> tuple[Scan, Origin]:
    """What a split holds, and its origin with what the reading found out.

    Where there are workers, and the number of samples is known beforehand, they share what is not
    read within ALONE_SECONDS; what is found does not depend on it.

    Args:
        bench: has the workers; None: this process alone.
        origin: of the split.
        data: the same, opened.
        where: its name in messages.

    Raises:
        DataError: if it is empty or cannot be used; see `scan`.
    """
    workers = bench.executor.workers if bench is not None else 1
    count = data.count() if workers > 1 and hasattr(data, "count") else None
    if bench is None or count is None:
        found = read(data, where)
    else:
        found = _read_for_a_while(data, where)
        if (begin := len(found.ids) + len(found.dropped)) < count:
            rest = _read_by_workers(bench, _knowing(origin, data), data, where, range(begin, count))
            found.extend(rest, where)
            _refuse_repeated(found, getattr(data, "source", where))
    scan = found.result(where, drop_not_finite=origin.drop_not_finite)
    return scan, _knowing(origin, data)


def _knowing(origin: Origin, data: Any) -> Origin:
    known = data.known() if hasattr(data, "known") else {}
    return Origin(origin.spec, origin.dtypes, origin.drop_not_finite, known)


def _read_for_a_while(data: Any, where: str) -> Reading:
    ends = time.monotonic() + ALONE_SECONDS
    found = Reading()
    for sample in data:
        found.add(sample, where)
        if time.monotonic() > ends:
            break
    return found


def _read_by_workers(
    bench: Workbench, origin: Origin, data: Any, where: str, samples: range
) -> Reading:
    workers = min(bench.executor.workers, len(samples))
    edges = [samples.start + len(samples) * number // workers for number in range(workers + 1)]
    requests = tuple(
        _REQUEST.dump_json(StretchRequest(origin, begin, end, where)).decode()
        for begin, end in pairwise(edges)
    )
    readings: dict[int, Reading] = {}

    def take(number: int, folder: Path) -> None:
        content = json.loads((folder / "reading.json").read_text("utf-8"))
        readings[number] = Reading.from_json(content["reading"])
        if content["casts"]:
            data.casts.update(content["casts"])

    with bench.store.scratch() as folder:
        bench.executor.run(Work(_HANDLER, requests), folder, lambda _: None, take)
    whole = Reading()
    for number in range(workers):
        whole.extend(readings.pop(number), where)
    return whole


def _refuse_repeated(reading: Reading, source: str) -> None:
    """A stretch's own reading sees to its ids; two of them may share one."""
    seen: set[str] = set()
    for name in (*reading.ids, *reading.dropped):
        if name in seen:
            raise repeated_id(source, name)
        seen.add(name)


def read_stretch(text: str, _model: Path, target: Path, advance: Advance) -> None:
    """Serve a request.

    Args:
        text: a `StretchRequest` in JSON.
        target: the folder, existing, for reading.json.
        advance: called with the samples done.
    """
    request = _REQUEST.validate_json(text)
    data = request.origin.unfiltered()
    found = read(data.part(request.begin, request.end), request.where)
    content = {"reading": found.to_json(), "casts": getattr(data, "casts", {})}
    write_atomically(target / "reading.json", json.dumps(content))
    advance(len(found.ids))
