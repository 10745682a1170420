"""Linear probes on features with known answers."""

import pytest
import torch

from mini.probes import area_under_curve, classify, probe


def test_probe_finds_a_linear_map() -> None:
    generator = torch.Generator().manual_seed(1)
    features = torch.randn(600, 8, generator=generator)
    targets = features @ torch.randn(8, 3, generator=generator) + 2
    found = probe(features[:400], targets[:400], features[400:])
    torch.testing.assert_close(found, targets[400:], atol=0.05, rtol=0)


def test_classify_finds_linear_classes_and_none_in_noise() -> None:
    generator = torch.Generator().manual_seed(1)
    features = torch.randn(900, 6, generator=generator)
    labels = features[:, :3].argmax(dim=1)
    guess = classify(features[:600], labels[:600], features[600:], 3)
    assert (guess == labels[600:]).float().mean() > 0.95
    noise = torch.randint(3, (900,), generator=generator)
    guess = classify(features[:600], noise[:600], features[600:], 3)
    assert (guess == noise[600:]).float().mean() < 0.45


def test_area_under_curve_counts_pairs() -> None:
    scores = torch.tensor([0.1, 0.4, 0.35, 0.8])
    labels = torch.tensor([False, False, True, True])
    assert area_under_curve(scores, labels) == pytest.approx(3 / 4)
    with pytest.raises(ValueError, match="both classes, got 4 true, 0 false"):
        area_under_curve(scores, torch.ones(4, dtype=torch.bool))
