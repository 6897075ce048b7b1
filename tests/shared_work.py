"""Work for tests: each step leaves a line, and some do harm a few times."""

import json
import os
import signal
import time
from pathlib import Path

from calib.errors import DataError


def handle(text, model, target, advance):
    asked = json.loads(text)
    name, log = asked["name"], Path(asked["log"])
    for step in range(asked["steps"]):
        _harm(asked.get("harm"), step, log.with_name(f"tries-{name}"))
        with log.open("a", encoding="utf-8") as file:
            file.write(f"{name} {step} {os.getpid()}\n")
        (target / f"step-{step}").write_text(f"{name}.{step}", encoding="utf-8")
        advance(1)
    beside = model.with_name(f"{model.name}.data")
    weights = beside.read_text(encoding="utf-8") if beside.exists() else ""
    own = model.read_text(encoding="utf-8")
    (target / "result").write_text(f"{name} {own}{weights}", encoding="utf-8")


def _harm(harm, step, tries):
    if harm is None or step != harm["step"]:
        return
    with tries.open("a", encoding="utf-8") as file:
        file.write(f"{os.getpid()}\n")
    if len(tries.read_text(encoding="utf-8").split()) > harm.get("times", 1):
        return
    if "signal" in harm:
        os.kill(os.getpid(), getattr(signal, harm["signal"]))
        time.sleep(60)
    if harm.get("hangs"):
        time.sleep(600)
    if harm.get("kind") == "data":
        raise DataError("row 40", "is torn", got=3, expected="4", fix="Mend it.")
    raise ValueError("no such picture")
