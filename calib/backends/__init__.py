"""Inference runtimes behind one protocol."""

import os

# Since 1.29 ONNX Runtime reports sessions and models to Microsoft unless it is told not to, and
# puts a number of its own for this machine on the disk. It looks once, when it is first imported.
# What is calibrated here is nobody else's business; ORT_DISABLE_TELEMETRY=0 says otherwise.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
