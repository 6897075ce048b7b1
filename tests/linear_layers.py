"""Linear layers with rows of inputs, as remedies meet them."""

from typing import NamedTuple

import numpy as np


class LinearLayer(NamedTuple):
    """A weight (N, K), rows of inputs (R, K), and the mean of x xᵀ over them."""

    weight: np.ndarray
    rows: np.ndarray
    gram: np.ndarray


def linear_layer(seed, outputs=6, inputs=8, rows=200, dead=()):
    """Correlated inputs that are not centred, of unlike size, some of them always 0."""
    rng = np.random.default_rng(seed)
    mixed = rng.standard_normal((rows, inputs)) @ rng.standard_normal((inputs, inputs))
    x = (mixed + rng.standard_normal(inputs)) * np.exp(0.5 * rng.standard_normal(inputs))
    x[:, list(dead)] = 0
    weight = rng.standard_normal((outputs, inputs)) * np.exp(rng.standard_normal((outputs, 1)))
    return LinearLayer(weight, x, x.T @ x / rows)


def measured_error(layer, codes, scales):
    """The mean squared error of each output over the rows themselves."""
    dequantized = codes.astype(np.float64) * np.asarray(scales, dtype=np.float64)[:, None]
    return np.square(layer.rows @ (dequantized - layer.weight).T).mean(axis=0)
