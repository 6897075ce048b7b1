"""What makes INT8 accurate: pure-array algorithms, one a file."""
