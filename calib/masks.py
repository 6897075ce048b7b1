"""Finite numbers that stand for minus infinity."""

MASK_AMAX = 1e18
"""No network computes with numbers beyond this, whose squares leave float32: they are masks, such
as the -3.4e38 that exporters write in place of -inf."""
