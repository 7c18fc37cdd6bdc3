"""Least squares with λ₂ alone: one decomposition serves every λ₂.

The weights are w = (XᵀX/n + λ₂)⁻¹Xᵀy/n, of which XᵀX/n = VDVᵀ is decomposed, or XXᵀ/n where there are fewer rows
than columns: then w = Xᵀ(XXᵀ/n + λ₂)⁻¹y/n. Reference: Hastie & Tibshirani (2004), "Efficient quadratic regularization
for expression arrays".
"""

import numpy as np

from .columns import Array

REFINEMENTS = 2  # each takes the gradient that rounding has left, and goes where it leads


def ridge_path(x: Array, y: Array, strengths: Array) -> Array:
    """Solve for every λ₂ > 0 in strengths [K]; weights [K, p].

    x: [n, p]. y: [n]. Both are centred where the bias is free.
    """
    n, p = x.shape
    is_dual = n < p
    values, vectors = np.linalg.eigh((x @ x.T if is_dual else x.T @ x) / n)
    scale = 1 / (np.maximum(values, 0.0) + strengths[:, None])

    def step(gradient: Array) -> Array:
        """Solve (XᵀX/n + λ₂)w = −gradient for each row of gradients: of rows [K, n] if dual, else of columns."""
        return -((gradient @ vectors) * scale) @ vectors.T

    if is_dual:  # w = Xᵀa/n, with (XXᵀ/n + λ₂)a = y
        dual = step(np.broadcast_to(-y, (len(strengths), n)))
        for _ in range(REFINEMENTS):
            dual = dual + step((dual @ x) @ x.T / n + strengths[:, None] * dual - y)
        return dual @ x / n
    weight = step(np.broadcast_to(-(y @ x) / n, (len(strengths), p)))
    for _ in range(REFINEMENTS):
        weight = weight + step((weight @ x.T - y) @ x / n + strengths[:, None] * weight)
    return weight


def least_squares(x: Array, y: Array) -> Array:
    """Find the least squares without a penalty that have the smallest ‖w‖₂, [p]."""
    return np.linalg.lstsq(x, y, rcond=None)[0]
