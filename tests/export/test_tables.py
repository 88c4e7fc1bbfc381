"""CSV tables give back the floats that went in."""

from __future__ import annotations

import csv

import pytest
import torch

from torchscape import Network, export
from torchscape.errors import TorchscapeError


def read(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_tables_hold_every_column_exactly(tmp_path):
    third = 1.0 / 3.0
    network = Network.of(
        energy=[third, 2 * third, 1e-17],
        edges=[(0, 2), (2, 0)],
        ts_energy=[1.0 + third, 7.0],
        log_det=[-1e300, float("nan"), 0.1],
        ids=[5, 6, 9],
        ts_ids=[2, 4],
        coords=torch.tensor([[0.1, 0.2], [0.3, 0.4], [0.5, 0.6]], dtype=torch.float64),
        ts_coords=torch.tensor([[0.7, 0.8], [0.9, 1.0]], dtype=torch.float64),
        properties={"test accuracy": torch.tensor([0.9, 0.8, third], dtype=torch.float64)},
    )
    minima, saddles = (read(path) for path in export.to_csv(network, tmp_path / "a" / "b", coords=True))
    assert [float(row["energy"]) for row in minima] == network.energy.tolist()
    assert [row["log_det"] for row in minima] == ["-1e+300", "nan", "0.1"]
    assert [int(row["id"]) for row in minima] == [5, 6, 9]
    assert [int(row["minimum"]) for row in minima] == [0, 1, 2]
    assert [float(row["test accuracy"]) for row in minima] == network.properties["test accuracy"].tolist()
    assert [[float(row["x0"]), float(row["x1"])] for row in saddles] == network.ts_coords.tolist()
    assert [(row["minimum_a"], row["minimum_b"], row["id"]) for row in saddles] == [
        ("0", "2", "2"),
        ("2", "0", "4"),
    ]


def test_coordinates_are_left_out_unless_asked_for(tmp_path):
    network = Network.of(energy=[0.0], edges=[], ts_energy=[])
    minima, saddles = export.to_csv(network, tmp_path)
    assert minima.read_text().splitlines()[0] == "minimum,id,energy,log_det,log_degeneracy,n_modes,hits"
    assert read(saddles) == []
    with pytest.raises(TorchscapeError, match="coords=False"):
        export.to_csv(network, tmp_path, coords=True)
