"""Columns that no penalty holds, a free bias among them: their best weights, and slopes that they do not reach.

Where a dual point is shrunk, slopes stay feasible for the columns under a penalty. For a column without one they have
to sum to zero exactly, which no shrinking does: so its weight is fitted anew, and what is left is projected out.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from .row_loss import RowLoss

STEPS = 30  # of Newton's method; their number is fixed, so that they can be vectorised
REFINEMENTS = 2  # of least squares, whose first step is exact
SHARES = 2.0 ** -torch.arange(14, dtype=torch.float64)  # of a step, the largest that is downhill is taken
ROUNDING = 1e-15  # of the mean loss
PINNED = 1e-12  # the share of the largest curvature below which a direction has none


@dataclass(frozen=True)
class FreeColumns:
    """Columns that no penalty holds. basis: orthonormal, of all that they span, [n, q]."""

    loss: RowLoss
    basis: Tensor

    @classmethod
    def spanning(cls, loss: RowLoss, columns: Tensor) -> "FreeColumns":
        """Take columns [n, m], which may depend on one another."""
        u, s, _ = torch.linalg.svd(columns, full_matrices=False)
        return cls(loss, u[:, s > s.max() * max(columns.shape) * torch.finfo(s.dtype).eps])

    def curved(self, rates: Tensor) -> Tensor:
        """Invert Σ ∇²ℓ ⊗ qqᵀ on its range, from second derivatives [n, outputs, outputs]."""
        outputs, q = rates.shape[1], self.basis.shape[1]
        hessian = torch.einsum("ncd,nq,nr->cqdr", rates, self.basis, self.basis).reshape(outputs * q, outputs * q)
        return torch.linalg.pinv(hessian, rtol=PINNED, hermitian=True)

    def rates(self, output: Tensor) -> Tensor:
        """Compute the curvatures by which steps go, [n, outputs, outputs]."""
        return self.loss.model_curvatures(output).reshape(len(output), *2 * output.shape[1:])

    def settle(self, output: Tensor) -> Tensor:
        """Give outputs [n, outputs] the weights of these columns that are best for them, by Newton's method."""
        shares = SHARES.to(output)
        for _ in range(REFINEMENTS if self.loss.task.is_least_squares else STEPS):
            pull = self.loss.slope(output).T @ self.basis  # [outputs, q]
            step = -(self.curved(self.rates(output)) @ pull.flatten()).reshape(pull.shape)
            change = self.basis @ step.T
            now = self.loss.losses(output).mean()
            there = torch.stack([self.loss.losses(output + share * change).mean() for share in shares])
            is_downhill = there <= now + ROUNDING * now.abs()
            share = torch.where(is_downhill.any(), shares[is_downhill.to(torch.int8).argmax()[None]][0], 0.0)
            output = output + share * change
        return output

    def unreached(self, output: Tensor, slope: Tensor) -> Tensor:
        """Give slopes [n, outputs] near the given ones that sum to zero over every one of these columns.

        They change in proportion to the curvature at the outputs, so that a slope which the loss hardly ever has stays
        one that it has; what is left is taken out plainly.
        """
        rates, pull = self.rates(output), slope.T @ self.basis
        move = self.basis @ (self.curved(rates) @ pull.flatten()).reshape(pull.shape).T
        slope = slope - (rates @ move[:, :, None])[:, :, 0]
        return slope - self.basis @ (self.basis.T @ slope)
