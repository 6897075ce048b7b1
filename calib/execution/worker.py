"""What a worker does, wherever it runs; and the program of a process of this machine."""

import importlib
import json
import signal
import sys
from pathlib import Path
from typing import Any, cast

from calib import errors
from calib.errors import InputError
from calib.execution.work import Handler


def handler(name: str) -> Handler:
    """The function that `module:function` names."""
    module, _, function = name.partition(":")
    return cast(Handler, getattr(importlib.import_module(module), function))


def content_of(error: InputError) -> dict[str, Any]:
    """An error as JSON that another process makes the same error of."""
    parts = {name: getattr(error, name) for name in ("got", "expected")}
    shown = {name: None if value is None else str(value) for name, value in parts.items()}
    plain = {"where": error.where, "problem": error.problem, "fix": error.fix}
    return {"error": type(error).__name__, **plain, **shown, "more": list(error.more)}


def error_from(content: dict[str, Any]) -> InputError:
    """The error that `content_of` described."""
    kind: type[InputError] = getattr(errors, content["error"], InputError)
    return kind(**{name: value for name, value in content.items() if name != "error"})


def main() -> None:
    """Read what is to be done from standard input, do it, and say on standard output how far."""
    # The parent ends this process: it needs no traceback. Batch systems send SIGTERM to every
    # process of a job, and the parent would take a worker's end for a fault.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    said = sys.stdout
    sys.stdout = sys.stderr  # a user's loader may print

    def say(content: dict[str, object]) -> None:
        said.write(json.dumps(content) + "\n")
        said.flush()

    asked = json.loads(sys.stdin.read())
    try:
        handler(asked["handler"])(
            asked["request"],
            Path(asked["model"]),
            Path(asked["target"]),
            lambda count: say({"done": count}),
        )
    except InputError as error:
        say(content_of(error))


if __name__ == "__main__":
    main()
