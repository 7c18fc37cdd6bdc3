"""A matrix's largest singular value: by how much a layer can stretch what it is given."""

import torch
from torch import Tensor

from shrinkage.errors import InputError

from .base import Params, Penalty, add_up, as_matrix, find_cut


class Spectral(Penalty):
    """The spectral norm is the largest singular value of a weight matrix; Ω adds it up over the matrices.

    Ω(w) = Σ‖W‖₂ over the weight matrices W, ‖W‖₂ the largest singular value.

    A convolution's weight [out, in, height, width] is the matrix [out, in·height·width]; a weight of one dimension
    is a column. prox with step t: the same singular vectors, and every singular value cut at one size, as `LInf` cuts
    entries. Reference: Parikh & Boyd (2014), "Proximal algorithms", §6.7.2; as a penalty of networks, squared: Yoshida
    & Miyato (2017), "Spectral norm regularization for improving the generalizability of deep learning". Raises
    InputError if no weight has two rows and two columns.
    """

    def check(self, weights: Params) -> None:
        check_matrices(weights, "spectral")

    def value(self, weights: Params) -> Tensor:
        return add_up(torch.linalg.svdvals(as_matrix(w)).amax() for w in weights.values())

    def prox(self, weights: Params, step: Tensor | float) -> dict[str, Tensor]:
        def cut(w: Tensor) -> Tensor:
            u, s, vh = torch.linalg.svd(as_matrix(w), full_matrices=False)
            return (u * s.clamp(max=find_cut(s, step)) @ vh).reshape(w.shape)

        return {name: cut(w) for name, w in weights.items()}


def check_matrices(weights: Params, norm: str) -> None:
    """Look for a weight of at least two rows and two columns. Raises InputError if there is none."""
    if not any(min(as_matrix(w).shape) > 1 for w in weights.values()):
        raise InputError(
            f"penalty={norm}: every weight of this model is a single row or column, for which the {norm} norm is the "
            "length; use penalty=l2_norm, or a model with matrices, such as model=mlp"
        )
