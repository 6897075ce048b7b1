"""Reading and editing ONNX graphs; every edit takes a model and gives a new one."""
