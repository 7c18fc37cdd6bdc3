"""The sum of a matrix's singular values: low rank."""

import torch
from torch import Tensor

from .base import Params, Penalty, add_up, as_matrix, soft_threshold
from .spectral import check_matrices


class Nuclear(Penalty):
    """The nuclear norm adds up the singular values of every weight matrix, which leads to low rank.

    Ω(w) = Σ‖W‖_* over the weight matrices W, ‖W‖_* the sum of the singular values.

    A convolution's weight [out, in, height, width] is the matrix [out, in·height·width]; a weight of one dimension
    is a column. prox with step t: the same singular vectors, and soft(s, t) of the singular values s. Reference: Cai,
    Candès & Shen (2010), "A singular value thresholding algorithm for matrix completion". Raises InputError if no
    weight has two rows and two columns.
    """

    def check(self, weights: Params) -> None:
        check_matrices(weights, "nuclear")

    def value(self, weights: Params) -> Tensor:
        return add_up(torch.linalg.svdvals(as_matrix(w)).sum() for w in weights.values())

    def prox(self, weights: Params, step: Tensor | float) -> dict[str, Tensor]:
        def thresholded(w: Tensor) -> Tensor:
            u, s, vh = torch.linalg.svd(as_matrix(w), full_matrices=False)
            return (u * soft_threshold(s, step) @ vh).reshape(w.shape)

        return {name: thresholded(w) for name, w in weights.items()}
