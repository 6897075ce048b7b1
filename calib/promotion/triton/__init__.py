"""A Triton model repository: what passed becomes the next version of a model."""

from calib.promotion.triton.repository import TritonRepository, open_target

__all__ = ["TritonRepository", "open_target"]
