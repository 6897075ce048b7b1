"""What goes with an INT8 model to ONNX Runtime: the session that it was measured with."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from calib.store import write_atomically

SETTINGS_NAME = "session.json"
SCRIPT_NAME = "time_model.py"

_SCRIPT = '''"""Open the model beside this file as it was measured, and time a batch.

    python time_model.py [batch.npz]    arrays by input name; ones of the measured shapes if absent
"""

import json
import sys
import time
from pathlib import Path

import numpy as np
import onnxruntime as ort

here = Path(__file__).parent
given = json.loads((here / "session.json").read_text())
options = ort.SessionOptions()
options.intra_op_num_threads = given["threads"]
options.graph_optimization_level = getattr(ort.GraphOptimizationLevel, given["optimization"])
for key, value in given["entries"].items():
    options.add_session_config_entry(key, value)
session = ort.InferenceSession(here / given["model"], options, providers=given["providers"])
if len(sys.argv) > 1:
    feeds = dict(np.load(sys.argv[1]))
else:
    feeds = {n: np.ones(i["shape"], i["dtype"]) for n, i in given["inputs"].items()}
times = []
for _ in range(53):
    begin = time.perf_counter()
    session.run(None, feeds)
    times.append((time.perf_counter() - begin) * 1e3)
print(f"median {np.median(times[3:]):.2f} ms over {len(times) - 3} runs")
'''


def write_deployment(
    folder: Path, model_name: str, session: Mapping[str, Any], inputs: Mapping[str, Any]
) -> None:
    """Write the session's settings, and a script that opens the model with them.

    Args:
        folder: the model's.
        model_name: the ONNX file in it.
        session: of `OnnxRuntime.session_settings`.
        inputs: (dtype, shape) by name: those of the largest batch that was timed.
    """
    settings = {
        "model": model_name,
        **session,
        "inputs": {name: {"dtype": d, "shape": list(s)} for name, (d, s) in inputs.items()},
    }
    write_atomically(folder / SETTINGS_NAME, json.dumps(settings, indent=1) + "\n")
    write_atomically(folder / SCRIPT_NAME, _SCRIPT)
