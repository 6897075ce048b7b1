"""Running TensorRT engines, through Polygraphy's runner. Needs a GPU."""

import os
from pathlib import Path
from typing import Any

from calib.engine_record import EngineIdentity
from calib.errors import BackendError


def make_runner(plan: Path, kind: str, name: str) -> Any:
    """A Polygraphy runner of an engine file, not yet activated.

    Args:
        plan: the engine.
        kind: tensorrt or tensorrt_rtx; Polygraphy serves one of them in a process.
        name: the runner's name.
    """
    if kind == "tensorrt_rtx":
        os.environ["POLYGRAPHY_USE_TENSORRT_RTX"] = "1"
    from polygraphy.backend.common import BytesFromPath
    from polygraphy.backend.trt import EngineFromBytes, TrtRunner

    return TrtRunner(EngineFromBytes(BytesFromPath(str(plan))), name=name)


def refuse_unfit(identity: EngineIdentity, version: str, target: str, where: str) -> None:
    """Refuse an engine of another TensorRT or another GPU before TensorRT fails on it.

    Args:
        identity: what is kept beside the engine's file.
        version: of the TensorRT at hand.
        target: compute capability or name of the GPU at hand.
        where: the engine's path, for the message.

    Raises:
        BackendError: naming what does not fit.
    """
    facts = (("TensorRT", identity.version, version), ("GPU", identity.target, target))
    for name, built, here in facts:
        if built != here:
            raise BackendError(
                where,
                f"this engine was built for another {name}",
                got=built,
                expected=here,
                fix="Build it again on this machine.",
            )
