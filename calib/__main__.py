"""`python -m calib` is the `calib` command."""

from calib.cli import main

main()
