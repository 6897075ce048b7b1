"""A PyTorch checkpoint as npz; runs in the environment that has PyTorch, as a script."""

import sys

import numpy as np
import torch

if __name__ == "__main__":
    state = torch.load(sys.argv[1], map_location="cpu", weights_only=True)
    np.savez(sys.argv[2], **{name: value.numpy() for name, value in state.items()})
