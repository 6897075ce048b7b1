"""`calib` as a command that starts at once: a process that has it imported forks for each call.

What runs is `calib.cli.main` with the caller's arguments, folder and standard streams, in a process
of its own; only the seconds of importing are paid once.
"""

import os
import socket
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

_CLIENT = """#!{python} -IS
import json, os, socket, sys
channel = socket.socket(socket.AF_UNIX)
channel.connect({address!r})
call = json.dumps([os.getcwd(), dict(os.environ), sys.argv[1:]]).encode()
socket.send_fds(channel, [call], [0, 1, 2])
sys.exit(int(channel.recv(8) or b"99"))
"""


@contextmanager
def warm_calib(folder):
    """A folder with a `calib` command in it, for PATH."""
    address = str(folder / "calib.socket")
    commands = folder / "bin"
    commands.mkdir()
    client = commands / "calib"
    client.write_text(_CLIENT.format(python=sys.executable, address=address), encoding="utf-8")
    client.chmod(0o755)
    root = str(Path(__file__).parent.parent)
    with (
        socket.socket(socket.AF_UNIX) as listening,
        subprocess.Popen(
            [sys.executable, __file__],
            stdin=listening,
            env={**os.environ, "PYTHONPATH": root},
        ) as server,
    ):
        listening.bind(address)
        listening.listen()
        try:
            yield commands
        finally:
            server.kill()


def _serve():
    import json

    import numpy as np

    from calib.calibrators import statistics_from_array
    from calib.cli import main

    # The compiled loops, too, are loaded once.
    one, two = (statistics_from_array("x", np.ones((2, 4), np.float32)) for _ in range(2))
    one.merge(two)
    with socket.socket(fileno=0) as listening:
        while True:
            channel, _ = listening.accept()
            call, streams, _, _ = socket.recv_fds(channel, 2**20, 3)
            folder, environment, arguments = json.loads(call)
            child = os.fork()
            if child == 0:
                for number, stream in enumerate(streams):
                    os.dup2(stream, number)
                sys.stdout, sys.stderr = (open(n, "w", closefd=False) for n in (1, 2))  # noqa: SIM115
                os.chdir(folder)
                os.environ.clear()
                os.environ.update(environment)
                sys.argv = ["calib", *arguments]
                main()
            code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
            for stream in streams:
                os.close(stream)
            channel.sendall(str(code).encode())
            channel.close()


if __name__ == "__main__":
    _serve()
