"""The law of an operator and its adjoint, which the tests of all operators share."""

from collections.abc import Callable

from torch import Tensor

__all__ = ["valid_adjoint"]


def valid_adjoint(
    A: Callable[[Tensor], Tensor],
    T: Callable[[Tensor], Tensor],
    x: Tensor,
    y: Tensor,
    *,
    rtol: float = 1e-5,
) -> bool:
    """Return True if ``<A x, y> = <x, T y>`` within ``rtol |A x| |y|``.

    Inner products of complex tensors are real parts. Vectors that make the law vacuous are refused.

    Raises
    ------
    ValueError
        If the shapes do not match, or the inner product is not far above the tolerance.
    """
    ax, ty = A(x), T(y)
    if ax.shape != y.shape or ty.shape != x.shape:
        raise ValueError(f"A x is {ax.shape} and y {y.shape}; T y is {ty.shape} and x {x.shape}")
    forward, backward = _inner(ax, y), _inner(x, ty)
    tolerance = rtol * float(ax.norm() * y.norm())
    if not abs(forward) > 20 * tolerance:
        raise ValueError(f"<A x, y> = {forward:g}: a law about zero says nothing")
    return abs(forward - backward) < tolerance


def _inner(a: Tensor, b: Tensor) -> float:
    return float((a.conj() * b).real.double().sum())
