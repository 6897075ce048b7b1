"""Our TensorRT code against the real bindings of three versions, with nothing behind them."""

import json
import os
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from small import ROOT

from calib.backends import cuda_buffers, cuda_runtime, cuda_timing
from examples.packages import wheel

WHEELS = {
    "10.13.3.9": "f40c9e488af125b232fcca85ac4b21e090d7b1be55c3062eeaf48c2a9a9ed808",
    "10.16.0.72": "9795ad12065916e3a3b0efa1aa3d2dd3c18f5926bdde7810ef23e1208696fc16",
    "11.4.0.106": "d072ac2a095e2be749fefc847adfb25d5ebe70303401df62ede8fe67a59f27fc",
}
LIBRARIES = {
    "libnvinfer": [
        "createInferBuilder_INTERNAL",
        "createInferRefitter_INTERNAL",
        "createInferRuntime_INTERNAL",
        "getPluginRegistry",
        "getBuilderPluginRegistry",
    ],
    "libnvonnxparser": [
        "createNvOnnxParser_INTERNAL",
        "createNvOnnxParserRefitter_INTERNAL",
        "getNvOnnxParserVersion",
    ],
    "libnvinfer_plugin": ["initLibNvInferPlugins"],
}
COMPILER = shutil.which("cc") or shutil.which("gcc")
HERE = Path(__file__).parent


def stub_libraries(folder, major):
    """Libraries that hold the symbols the bindings want to find; each of them returns null."""
    for name, symbols in LIBRARIES.items():
        source = "\n".join(f"void *{symbol}(void) {{ return 0; }}" for symbol in symbols)
        (folder / f"{name}.c").write_text(source)
        target = folder / f"{name}.so.{major}"
        command = [COMPILER, "-shared", "-fPIC", f"-Wl,-soname,{target.name}"]
        subprocess.run([*command, "-o", target, folder / f"{name}.c"], check=True)


@pytest.fixture(scope="module", params=WHEELS)
def facts(request, tmp_path_factory):
    """What contract.py finds under one version."""
    if COMPILER is None:
        pytest.skip("no C compiler to make the empty libraries with")
    if sys.version_info[:2] != (3, 11) or sys.platform != "linux":
        pytest.skip("the wheels' hashes are those of Python 3.11 on Linux")
    os.chdir(ROOT)
    version = request.param
    folder = tmp_path_factory.mktemp("trt")
    package = wheel(f"tensorrt-cu13-bindings=={version}", WHEELS[version])
    with zipfile.ZipFile(package) as archive:
        archive.extractall(folder)
    stub_libraries(folder, version.split(".")[0])
    environment = {
        **os.environ,
        "LD_LIBRARY_PATH": str(folder),
        "PYTHONPATH": os.pathsep.join([str(folder), str(ROOT)]),
    }
    done = subprocess.run(
        [sys.executable, str(HERE / "contract.py")],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.strip().splitlines()[-1])
    assert found["version"] == version
    return found


RTX_ONLY = {
    "trt.ComputeCapability",
    "config.num_compute_capabilities",
    "config.set_compute_capability",
}
GONE_IN_11 = {
    "trt.IInt8EntropyCalibrator2",
    "trt.IInt8EntropyCalibrator2.__init__",
    "config.int8_calibrator",
    "config.set_calibration_profile",
}


def test_every_name_our_code_touches_is_there(facts):
    # What a version lacks is only asked for behind a hasattr, or for TensorRT-RTX.
    gone = GONE_IN_11 if facts["version"].startswith("11.") else set()
    assert set(facts["missing"]) == RTX_ONLY | gone
    assert len(facts["seen"]) > 30


def test_every_call_fits_the_bindings_signatures(facts):
    assert facts["wrong_calls"] == []


def test_calibrators_are_the_real_classes_and_remember_what_went_wrong(facts):
    if facts["version"].startswith("11."):
        assert facts["calibrators"] == "none"
    else:
        assert len(facts["calibrators"]) == 4


def test_the_profiler_is_the_real_class_and_keeps_every_time(facts):
    assert facts["profiler"] == {"fc1": [1.0, 3.0]}


def test_every_cuda_function_of_the_timing_loop_is_there():
    runtime = pytest.importorskip("cuda.bindings.runtime")
    modules = (cuda_buffers, cuda_runtime, cuda_timing)
    sources = [Path(module.__file__).read_text(encoding="utf-8") for module in modules]
    names = set(re.findall(r"\bcuda[A-Z]\w+", "\n".join(sources)))
    members = {"cudaStreamCaptureModeThreadLocal", "cudaMemcpyHostToDevice"}
    members |= {"cudaMemcpyDeviceToHost", "cudaErrorMemoryAllocation", "cudaError"}
    assert len(names - members) > 15
    assert [name for name in names - members if not hasattr(runtime, name)] == []
    assert hasattr(runtime.cudaStreamCaptureMode, "cudaStreamCaptureModeThreadLocal")
    assert hasattr(runtime.cudaMemcpyKind, "cudaMemcpyDeviceToHost")
    codes = {"cudaErrorMemoryAllocation", *cuda_runtime.LOST}
    assert [code for code in codes if not hasattr(runtime.cudaError_t, code)] == []


def test_loggers_monitors_and_flags_are_taken_by_the_real_classes(facts):
    assert facts["worker"] == "no builder, as it should be"
