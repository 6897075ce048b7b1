"""A small finished run to promote, its copies with other verdicts, and keys to sign them with."""

import shutil
from datetime import UTC, datetime, timedelta

import models
import numpy as np
import onnx
import yaml
from small import config

from calib.config import load_experiment
from calib.evidence import bundle, keys, statements, waivers
from calib.gate.judging import evaluate
from calib.gate.limits import LimitsSpec
from calib.pipeline import run_experiment
from calib.progress import Silent
from calib.rundir import load_result

PASSES = {"accuracy_drop_points_max": 20.0}
FAILS = {"samples_min": 10**6}
CANNOT_TELL = {"accuracy_drop_points_max": 0.01}
ASKS_NOTHING = {"judge": "best"}


def finished(folder, **changes):
    """The directory of a whole run of the small classifier: it passes, with a session to ship."""
    onnx.save(models.mlp(), folder / "model.onnx")
    rng = np.random.default_rng(7)
    content = config()
    for name, count in (("calibration", 48), ("validation", 120)):
        x = rng.normal(size=(count, models.FEATURES)).astype(np.float32)
        label = models.run(models.mlp(), {"x": x})["logits"].argmax(axis=1)
        np.savez(folder / f"{name}.npz", x=x, label=label)
        content["data"][name]["path"] = str(folder / f"{name}.npz")
    content |= {
        "model": {"kind": "onnx", "path": str(folder / "model.onnx")},
        "calibration": {"calibrators": [{"kind": "minmax"}]},
        "engines": {"fp16": False},
        "throughput": {"batch_sizes": [8], "runs": 10, "warmup_runs": 1},
        "limits": PASSES,
        "output": {"reports": str(folder / "reports"), "store": str(folder / "store")},
        **changes,
    }
    (folder / "config.yaml").write_text(yaml.safe_dump(content), encoding="utf-8")
    return run_experiment(load_experiment(folder / "config.yaml"), Silent()).directory


def copied(run, folder, **limits):
    """A copy of a run; judged by other limits if there are any."""
    shutil.copytree(run, folder)
    if limits:
        result = load_result(folder)
        verdict = evaluate(result, LimitsSpec(**limits))
        judged = result.model_copy(update={"verdict": verdict})
        (folder / "result.json").write_text(judged.model_dump_json(), encoding="utf-8")
    return folder


def key_pair(folder, name="key"):
    """The path of a new private key; the public one ends in .pub."""
    keys.generate(folder / name)
    return folder / name


def attested(run, key, now=None):
    """Sign what a run found, as `calib attest` does."""
    found = statements.statements_of(load_result(run), run, now or datetime.now(UTC))
    bundle.write_bundle(found, [keys.open_signer(str(key))], run / "run.intoto.jsonl")


def waived(run, key, path, limit="samples_min", **changes):
    """A signed waiver for the run's INT8 model."""
    values = {
        "limit": limit,
        "model_sha256": load_result(run).candidate("int8-minmax").model_sha256,
        "owner": "Ada Lovelace",
        "reason": "a pilot with ten users",
        "expires": datetime.now(UTC) + timedelta(days=7),
    }
    made = waivers.Waiver(**{**values, **changes})
    bundle.write_bundle([waivers.waiver_statement(made)], [keys.open_signer(str(key))], path)
    return path


def snapshot(folder):
    """Every file and folder below, with the content of the files."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes() if path.is_file() else None
        for path in sorted(folder.rglob("*"))
    }
