"""How far two samples are from coming out of one distribution."""

import torch

from detectors.base import Matrix
from detectors.neural.build import tensor


def mmd(one: torch.Tensor, two: torch.Tensor) -> torch.Tensor:
    """Return the squared maximum mean discrepancy of two samples with Gaussian kernels; 0 for equal ones.

    The sum over kernels whose squared widths are 1/4, 1 and 4 times the median squared distance within
    `two`, the fixed one of the samples, so that values of several calls compare [1]_.

    References
    ----------
    .. [1] Gretton et al. (2012), A kernel two-sample test, JMLR 13, equation 5 and section 8.
    """
    within_two = _squares(two, two)
    median = within_two.median().clamp_min(1e-6)
    total = torch.zeros(())
    for factor in (0.25, 1.0, 4.0):
        kernels = (
            torch.exp(-squares / (factor * median)).mean()
            for squares in (_squares(one, one), within_two, _squares(one, two))
        )
        same_one, same_two, across = kernels
        total = total + same_one + same_two - 2.0 * across
    return total


def _squares(one: torch.Tensor, two: torch.Tensor) -> torch.Tensor:
    return torch.cdist(one, two).square()


def overlap(normal: torch.Tensor, odd: torch.Tensor) -> torch.Tensor:
    """Return the chance that an odd row lies nearer to the middle of normal ones than a normal row does.

    Distances are Mahalanobis' with the normal rows' mean and covariance; 0 is perfect, 1/2 is chance.

    Parameters
    ----------
    normal, odd : Tensor of shape (n, k), (m, k)
    """
    centred = normal - normal.mean(dim=0)
    covariance = centred.T @ centred / max(1, len(normal) - 1)
    ridge = 1e-6 * covariance.diagonal().mean() + 1e-12
    root = torch.linalg.cholesky(covariance + ridge * torch.eye(len(covariance)))
    near, far = (
        torch.linalg.solve_triangular(root, (rows - normal.mean(dim=0)).T, upper=False).square().sum(dim=0)
        for rows in (normal, odd)
    )
    rank = torch.searchsorted(near.sort().values, far)
    return 1.0 - rank.float().mean() / len(normal)


def some(rows: Matrix, most: int) -> torch.Tensor:
    """Return at most so many rows, evenly spaced, as a tensor."""
    return tensor(rows[:: -(-len(rows) // most)])
