"""What is known exactly about a problem before any training."""

import numpy as np


def lambda_max(x: np.ndarray, y: np.ndarray, classes: int | None, l1_ratio: float = 1.0) -> float:
    """The smallest λ at which every weight of a linear model is zero under λ(l1_ratio·‖w‖₁ + …), the bias free.

    With x [n, p] and y [n], centred: ‖Xᵀy‖_∞/n for ½ mean squares. For cross-entropy the same with the targets minus
    their means: y in {0, 1} for one logit, a column a class for the softmax. Divided by l1_ratio in (0, 1].
    Reference: Friedman, Hastie & Tibshirani (2010), "Regularization paths for generalized linear models", §2.5.
    """
    if classes is not None and classes > 2:
        y = np.eye(classes)[y]
    centred = x - x.mean(axis=0)
    return float(np.abs(centred.T @ (y - y.mean(axis=0))).max() / len(x) / l1_ratio)
