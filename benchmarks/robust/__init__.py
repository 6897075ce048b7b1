"""What goes wrong on purpose, and how calib takes it: the parts of `benchmarks/robustness.py`."""
