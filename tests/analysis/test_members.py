"""Members of an ensemble that the thermodynamics of a landscape choose and weigh."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from torchscape import Network, analysis
from torchscape.errors import TorchscapeError


def test_the_lowest_come_first():
    net = Network.of([0.5, 0.1, 0.3, 0.2], [], [])
    assert analysis.select_lowest(net, 3).tolist() == [1, 3, 2]
    assert analysis.select_lowest(net, 9).tolist() == [1, 3, 2, 0]
    with pytest.raises(TorchscapeError, match="at least 1"):
        analysis.select_lowest(net, 0)


def test_peaks_hand_over_the_minima_that_they_exchange():
    """Two well-separated peaks: the first exchanges 0 and 1, the second 1 and 2; the rest hardly take part."""
    net = Network.of([0.0, 0.1, 3.0, 3.05, 0.9], [], [], log_det=[0.0, -20.0, -80.0, 0.0, 0.0])
    assert len(analysis.heat_capacity_peaks(net)) == 2
    assert set(analysis.select_by_peaks(net, 3).tolist()) == {0, 1, 2}
    assert sorted(analysis.select_by_peaks(net, 9).tolist()) == [0, 1, 2, 3, 4]
    with pytest.raises(TorchscapeError, match="no peak"):
        analysis.select_by_peaks(Network.of([0.0], [], []), 1)


def test_boltzmann_weights_are_occupations_among_the_members():
    net = Network.of([0.0, 0.2, 0.5, 0.1], [], [], log_det=[3.0, 1.0, 0.0, 2.0])
    members = torch.tensor([0, 1, 3])
    found = analysis.boltzmann_weights(net, members, 0.3)
    raw = np.exp(-net.energy[members].numpy() / 0.3 - net.log_det[members].numpy() / 2)
    assert found.numpy() == pytest.approx(raw / raw.sum())
