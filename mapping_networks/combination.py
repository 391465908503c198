"""The best combination of the networks that a step went through."""

from __future__ import annotations

import torch

from semantic_edit.mapping_networks.objective import Outcome

Candidate = tuple[dict[str, torch.Tensor], Outcome]  # networks, (pictures, *shape) each, and their outcome
RIDGE = 1e-3  # of the directions' mean square: keeps nearly parallel ones from being played off against each other


def combination_weights(residuals: torch.Tensor) -> torch.Tensor:
    """The weights, summing to 1, that make the weighted sum of the residuals smallest.

    Args:
        residuals: (pictures, candidates, values).

    Returns:
        (pictures, candidates). A weight may be negative or above 1.

    Source: the mixing of iterates by least squares of Anderson, "Iterative Procedures for Nonlinear Integral
    Equations", 1965.
    """
    first, directions = residuals[:, :1], residuals[:, 1:] - residuals[:, :1]
    gram = (directions @ directions.transpose(1, 2)).cpu().double()
    slope = (directions @ first.transpose(1, 2)).cpu().double()
    ridge = (
        RIDGE
        * gram.diagonal(dim1=1, dim2=2).mean(dim=1).view(-1, 1, 1)
        * torch.eye(gram.shape[1], dtype=torch.float64)
    )
    along = -(torch.linalg.pinv(gram + ridge, hermitian=True) @ slope).squeeze(-1)
    return torch.cat([1 - along.sum(dim=1, keepdim=True), along], dim=1).to(residuals)


def combine(candidates: list[Candidate], target: torch.Tensor) -> dict[str, torch.Tensor]:
    """The combination of networks whose step comes closest to `target`, assuming that steps are linear between them.

    Args:
        candidates: Networks with the outcomes of their steps.
        target: (pictures, channels, height, width).

    Returns:
        The combined networks, (pictures, *shape) each.
    """
    reached = torch.stack([outcome.latents for _, outcome in candidates], dim=1)
    weights = combination_weights((reached - target.unsqueeze(1)).flatten(2))
    names = candidates[0][0]
    return {name: _weighted([networks[name] for networks, _ in candidates], weights) for name in names}


def _weighted(values: list[torch.Tensor], weights: torch.Tensor) -> torch.Tensor:
    stacked = torch.stack(values, dim=1)
    return (stacked * weights.view(*weights.shape, *[1] * (stacked.ndim - 2))).sum(dim=1)


def best_of(candidates: list[Candidate]) -> Candidate:
    """For each picture the candidate with the smallest loss; of equals, the first."""
    losses = torch.stack([outcome.loss for _, outcome in candidates])
    best, images = losses.argmin(dim=0), torch.arange(losses.shape[1], device=losses.device)

    def chosen(values: list[torch.Tensor]) -> torch.Tensor:
        return torch.stack(values)[best, images]

    networks = {name: chosen([one[name] for one, _ in candidates]) for name in candidates[0][0]}
    outcomes = [outcome for _, outcome in candidates]
    outcome = Outcome(
        latents=chosen([one.latents for one in outcomes]),
        latent_error=chosen([one.latent_error for one in outcomes]),
        attention_error=chosen([one.attention_error for one in outcomes]),
        loss=chosen([one.loss for one in outcomes]),
    )
    return networks, outcome
