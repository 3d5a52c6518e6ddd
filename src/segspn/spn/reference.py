"""The three-way propagation in plain torch: the definition that every kernel is tested against.

One direction scans the map line by line (a line is a column for left-right, a row for up-down).
With ``g`` the gates of the current pixel, ``X`` the input and ``H`` the result (paper eq. 2)::

    H_t[l] = (1 - sum_j g_j,t[l]) X_t[l] + sum_j g_j,t[l] H_{t-1}[l + j],   j in {-1, 0, 1}
           = X_t[l] + sum_j g_j,t[l] (H_{t-1}[l + j] - X_t[l])

The second form is the one computed: it keeps constant regions exactly constant, so that ties
between the directions are real ties. ``H = X`` on the first line. With ``normalise`` the gates are
first divided by ``max(1, sum_j |g_j|)``; after that, a gate whose neighbour lies outside the map
counts as 0 in both sums, so its weight goes to X.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import pad

MERGES = ("max", "mean", "all")


def _lines(maps: Tensor, direction: int) -> Tensor:
    """View ``(..., H, W)`` so that the direction scans axis -2 upwards; its own inverse with
    :func:`_unlines`. Directions: 0 left→right, 1 right→left, 2 top→bottom, 3 bottom→top."""
    maps = maps.transpose(-1, -2) if direction < 2 else maps
    return maps.flip(-2) if direction % 2 else maps


def _unlines(maps: Tensor, direction: int) -> Tensor:
    maps = maps.flip(-2) if direction % 2 else maps
    return maps.transpose(-1, -2) if direction < 2 else maps


def _effective(gates: Tensor, normalise: bool) -> Tensor:
    """The gates ``(..., 3, T, L)`` as the scan uses them: normalised, then out-of-range dropped."""
    if normalise:
        gates = gates / gates.abs().sum(-3, keepdim=True).clamp(min=1)
    inside = torch.ones(3, 1, gates.shape[-1], dtype=gates.dtype, device=gates.device)
    inside[0, :, 0] = 0
    inside[2, :, -1] = 0
    return gates * inside


def _neighbours(line: Tensor) -> Tensor:
    """``(..., L)`` to ``(..., 3, L)``: the values at l - 1, l, l + 1 (0 outside)."""
    padded = pad(line, (1, 1))
    return torch.stack((padded[..., :-2], line, padded[..., 2:]), -2)


def _scan(x: Tensor, gates: Tensor) -> Tensor:
    """One direction of ``x (..., T, L)`` with effective gates ``(..., 3, T, L)``."""
    lines = [x[..., 0, :]]
    for t in range(1, x.shape[-2]):
        now = x[..., t, :]
        step = gates[..., t, :] * (_neighbours(lines[-1]) - now.unsqueeze(-2))
        lines.append(now + step.sum(-2))
    return torch.stack(lines, -2)


def _directions(x: Tensor, gates: Tensor, normalise: bool) -> Tensor:
    """All four directions, ``x (B, N, H, W)`` to ``(B, 4, N, H, W)``."""
    per_channel = gates.dim() == 6
    results = []
    for d in range(4):
        g = gates[:, :, d] if per_channel else gates[:, None, d]
        g = _effective(_lines(g, d), normalise)
        results.append(_unlines(_scan(_lines(x, d), g), d))
    return torch.stack(results, 1)


def propagate_reference(
    x: Tensor, gates: Tensor, rounds: int = 1, merge: str = "max", normalise: bool = True
) -> Tensor:
    """Propagate ``x`` in four directions and merge; differentiable by plain autograd.

    Same arguments and result as :func:`segspn.spn.propagate`, which is the fast one; nothing is
    checked here. Half-precision tensors are computed as they come.
    """
    for _ in range(rounds):
        results = _directions(x, gates, normalise)
        if merge == "all":
            return results
        # torch.max over a dimension sends the gradient to the first maximum; amax would split it.
        x = results.max(1).values if merge == "max" else results.mean(1)
    return x


def backward_reference(
    grad: Tensor, x: Tensor, gates: Tensor, merge: str, normalise: bool
) -> tuple[Tensor, Tensor]:
    """The gradients of one round, by hand: for devices that have no kernel of their own.

    ``grad`` is the gradient of the result (``(B, N, H, W)``, or ``(B, 4, N, H, W)`` for ``all``).
    Returns those of ``x`` and ``gates``. With A_t the error that reaches H_t::

        A_t[l] = dY_t[l] + sum_j g_j,t+1[l - j] A_{t+1}[l - j]
        dX_t   = (1 - sum_j g_j,t) A_t
        dg_j,t[l] = A_t[l] (H_{t-1}[l + j] - X_t[l])

    and through the normalisation, where s = sum_j |ĝ_j| >= 1::

        dĝ_j = (dg_j - sign(ĝ_j) sum_i dg_i g_i) / s
    """
    per_channel = gates.dim() == 6
    results = _directions(x, gates, normalise)
    if merge == "max":
        chosen = results.max(1, keepdim=True).indices
        grads = torch.zeros_like(results).scatter_(1, chosen, grad.unsqueeze(1))
    elif merge == "mean":
        grads = (grad / 4).unsqueeze(1).expand_as(results)
    else:
        grads = grad
    grad_x = torch.zeros_like(x)
    grad_gates = torch.empty_like(gates)
    for d in range(4):
        raw = _lines(gates[:, :, d] if per_channel else gates[:, None, d], d)
        g = _effective(raw, normalise)
        xs, hs, dy = _lines(x, d), _lines(results[:, d], d), _lines(grads[:, d], d)
        lines = [dy[..., -1, :]]
        for t in range(x.shape[-2 if d > 1 else -1] - 1, 0, -1):
            moved = pad(g[..., t, :] * lines[-1].unsqueeze(-2), (1, 1))
            moved_sum = moved[..., 0, 2:] + moved[..., 1, 1:-1] + moved[..., 2, :-2]
            lines.append(dy[..., t - 1, :] + moved_sum)
        a = torch.stack(lines[::-1], -2)
        before = torch.cat((xs[..., :1, :], hs[..., :-1, :]), -2)
        differences = _neighbours(before).transpose(-2, -3) - xs.unsqueeze(-3)
        dg = a.unsqueeze(-3) * differences
        dg[..., 0, :] = 0  # the first line has no previous one
        dg[..., 0, :, 0] = 0
        dg[..., 2, :, -1] = 0
        free = torch.ones_like(a)
        free[..., 1:, :] -= g[..., 1:, :].sum(-3)
        grad_x += _unlines(free * a, d)
        if not per_channel:
            dg = dg.sum(1, keepdim=True)
        if normalise:
            s = raw.abs().sum(-3, keepdim=True)
            shared = (dg * g).sum(-3, keepdim=True) * (s >= 1)
            dg = (dg - raw.sign() * shared) / s.clamp(min=1)
        target = grad_gates[:, :, d] if per_channel else grad_gates[:, None, d]
        target.copy_(_unlines(dg, d))
    return grad_x, grad_gates
