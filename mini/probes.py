"""Linear probes of frozen features, which evaluate the mini encoders."""

import torch
from torch import Tensor
from torch.nn import functional as F

RIDGE = 1e-3


def probe(train: Tensor, train_targets: Tensor, test: Tensor) -> Tensor:
    """Fit a ridge regression to targets and predict them for held-out features.

    Args:
        train: (n, d) features.
        train_targets: (n, k) float32.
        test: (m, d) features.

    Returns:
        (m, k) float32.
    """
    mean, spread = train.mean(dim=0), train.std(dim=0) + 1e-6
    inputs, held_out = _with_one((train - mean) / spread), _with_one((test - mean) / spread)
    gram = (inputs.T @ inputs).double()
    gram += RIDGE * len(train) * torch.eye(len(gram), dtype=torch.double)
    weights = torch.linalg.solve(gram, (inputs.T @ train_targets).double())
    return held_out @ weights.float()


def classify(train: Tensor, labels: Tensor, test: Tensor, classes: int) -> Tensor:
    """Fit a multinomial logistic regression and return the class of each held-out row, (m,)."""
    mean, spread = train.mean(dim=0), train.std(dim=0) + 1e-6
    inputs, held_out = _with_one((train - mean) / spread), _with_one((test - mean) / spread)
    weights = torch.zeros(inputs.shape[1], classes, requires_grad=True)
    optimiser = torch.optim.LBFGS([weights], max_iter=60, line_search_fn="strong_wolfe")

    def loss() -> Tensor:
        optimiser.zero_grad()
        value = F.cross_entropy(inputs @ weights, labels) + 1e-4 * weights.square().sum()
        value.backward()
        return value

    optimiser.step(loss)  # type: ignore[arg-type]
    return (held_out @ weights.detach()).argmax(dim=1)


def area_under_curve(scores: Tensor, labels: Tensor) -> float:
    """Return the probability that a true row (labels bool) scores above a false one.

    Raises:
        ValueError: the labels are all true or all false.
    """
    ranks = scores.argsort().argsort().double() + 1
    positives = int(labels.sum())
    negatives = len(labels) - positives
    if not positives or not negatives:
        raise ValueError(f"needs rows of both classes, got {positives} true, {negatives} false")
    above = ranks[labels].sum() - positives * (positives + 1) / 2
    return float(above / (positives * negatives))


def _with_one(features: Tensor) -> Tensor:
    return torch.cat([features, torch.ones(len(features), 1)], dim=1)
