"""Statistics on disk: one npz a pass, with what they were made from."""

import io
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from calib.calibrators.histogram import TensorStatistics
from calib.errors import StoreError
from calib.store import write_atomically

_FORMAT = 1


def save_statistics(
    path: Path, statistics: Mapping[str, TensorStatistics], made_from: Mapping[str, Any]
) -> None:
    """Write statistics and the hashes of the model, data and settings they were made from.

    The file is a plain npz of arrays and one JSON text; it holds no pickle. Equal statistics give
    equal arrays.

    Args:
        path: the file; replaced whole.
        statistics: by tensor name.
        made_from: JSON-serialisable.
    """
    ordered = [statistics[name] for name in sorted(statistics)]
    header = {"format": _FORMAT, "made_from": made_from, "tensors": [s.name for s in ordered]}
    buffer = io.BytesIO()
    np.savez_compressed(
        buffer,
        header=np.array(json.dumps(header, sort_keys=True)),
        counts=np.stack([s.counts for s in ordered]) if ordered else np.zeros((0, 0), np.int64),
        exponent=np.array([s.exponent for s in ordered], dtype=np.int64),
        minimum=np.array([s.minimum for s in ordered], dtype=np.float64),
        maximum=np.array([s.maximum for s in ordered], dtype=np.float64),
        count=np.array([s.count for s in ordered], dtype=np.int64),
        zeros=np.array([s.zeros for s in ordered], dtype=np.int64),
    )
    write_atomically(path, buffer.getvalue())


def load_statistics(path: Path) -> tuple[dict[str, TensorStatistics], dict[str, Any]]:
    """Read what `save_statistics` wrote: (statistics by tensor, what they were made from).

    Raises:
        StoreError: if the file is missing, damaged, or of another format.
    """
    try:
        with np.load(path, allow_pickle=False) as archive:
            header = json.loads(str(archive["header"]))
            columns = {name: archive[name] for name in archive.files if name != "header"}
        if header["format"] != _FORMAT:
            raise ValueError(f"format {header['format']}, expected {_FORMAT}")
    except (OSError, ValueError, KeyError) as error:
        raise StoreError(
            str(path), f"holds no calibration statistics: {error}", fix="Calibrate again."
        ) from error
    statistics = {
        name: TensorStatistics(
            name=name,
            counts=columns["counts"][row],
            exponent=int(columns["exponent"][row]),
            minimum=float(columns["minimum"][row]),
            maximum=float(columns["maximum"][row]),
            count=int(columns["count"][row]),
            zeros=int(columns["zeros"][row]),
        )
        for row, name in enumerate(header["tensors"])
    }
    return statistics, header["made_from"]
