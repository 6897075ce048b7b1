"""INT8 calibration and accuracy validation for TensorRT."""
