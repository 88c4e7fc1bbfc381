"""MNIST from every layout that people have it in."""

from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
import pytest
import torch

from torchscape import problems
from torchscape.errors import TorchscapeError
from torchscape.optimise import relax
from torchscape.potentials.losses import AUCLoss
from torchscape.problems.mnist import mnist_data

DATA = Path(__file__).parents[3] / "shared" / "data" / "mnist_t10k.npz"
GENERATOR = np.random.default_rng(0)
IMAGES = GENERATOR.integers(0, 256, (40, 28, 28), dtype=np.uint8)
LABELS = np.arange(40, dtype=np.uint8) % 10


def write_idx(folder: Path, which: str, *, zipped: bool, images=IMAGES, labels=LABELS) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, magic, array in (("images-idx3", 2051, images), ("labels-idx1", 2049, labels)):
        header = np.array([magic, *array.shape], dtype=">i4").tobytes()
        path = folder / (f"{which}-{name}-ubyte" + ".gz" * zipped)
        with (gzip.open if zipped else open)(path, "wb") as stream:
            stream.write(header + array.tobytes())


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("inside", ["", "raw", "MNIST/raw"])
def test_idx_files_in_every_layout(tmp_path, inside, zipped):
    write_idx(tmp_path / inside, "train", zipped=zipped)
    images, labels = mnist_data(tmp_path)
    assert np.array_equal(images, IMAGES)
    assert np.array_equal(labels, LABELS)
    write_idx(tmp_path / inside, "t10k", zipped=zipped, images=IMAGES[:5], labels=LABELS[:5])
    assert mnist_data(tmp_path)[0].shape == (45, 28, 28)


def test_npz_and_seeded_split(tmp_path):
    path = tmp_path / "few.npz"
    np.savez(path, images=IMAGES, labels=LABELS)
    one, same, other = (
        problems.get("mnist", data=str(path), hidden=2, n_train=30, n_test=8, seed=seed) for seed in (0, 0, 1)
    )
    assert one.potential.ndim == 784 * 2 + 2 + 20 + 10
    assert [len(t) for t in one.test] == [8, 8]
    assert one.potential.fingerprint() == same.potential.fingerprint() != other.potential.fingerprint()
    inputs, targets = one.test
    for x, y in zip(inputs, targets, strict=True):
        where = (IMAGES.reshape(40, 784) == (255 * x).round().numpy()).all(1)
        assert LABELS[where].tolist() == [y]
    with pytest.raises(TorchscapeError, match="choose 1 to 39"):
        problems.get("mnist", data=str(path), n_train=40)


def test_default_places(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    with pytest.raises(TorchscapeError, match=r"train-images-idx3-ubyte\.gz .* into the folder data"):
        problems.get("mnist")
    write_idx(tmp_path / "data" / "MNIST" / "raw", "train", zipped=False)
    assert len(mnist_data()[1]) == 40


def test_bad_files_name_the_remedy(tmp_path):
    write_idx(tmp_path, "train", zipped=False)
    path = tmp_path / "train-images-idx3-ubyte"
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(TorchscapeError, match="download it again"):
        mnist_data(tmp_path)
    path.unlink()
    with pytest.raises(TorchscapeError, match="add both"):
        mnist_data(tmp_path)
    np.savez(tmp_path / "a.npz", images=IMAGES)
    with pytest.raises(TorchscapeError, match="labels"):
        mnist_data(tmp_path / "a.npz")
    np.savez(tmp_path / "a.npz", images=IMAGES.astype(float), labels=LABELS)
    with pytest.raises(TorchscapeError, match="bytes"):
        mnist_data(tmp_path / "a.npz")
    (tmp_path / "a.txt").touch()
    with pytest.raises(TorchscapeError, match=r"no \.npz"):
        mnist_data(tmp_path / "a.txt")


def test_auc_in_place_of_the_cross_entropy(tmp_path):
    """The same network and data, another landscape; each is best at its own."""
    pytest.importorskip("sklearn")
    plain, auc = (problems.get("digits", hidden=3, n_train=60, loss=loss) for loss in ("cross-entropy", "auc"))
    assert plain.potential.fingerprint() != auc.potential.fingerprint()
    assert torch.equal(plain.test[0], auc.test[0])
    start = plain.potential.sample(1)
    ends = [relax(p.potential, start, tol=1e-3, max_evaluations=3000) for p in (plain, auc)]
    assert isinstance(
        problems.get("digits", n_train=60, loss="auc-hinge").potential._evaluator.objective._loss, AUCLoss
    )
    for u, best, other in ((plain.potential, *ends), (auc.potential, *reversed(ends))):
        assert best.energy.item() < u.energy(other.x).item()
        assert best.energy.item() < u.energy(start).item()
    with pytest.raises(TorchscapeError, match="unknown loss 'roc'"):
        problems.get("digits", loss="roc")


def test_the_published_network_on_real_images():
    """784-10-10, lambda = 0.01 on 1000 images: one quench (published, for another sample: errors 0.133-0.162)."""
    if not DATA.exists():
        pytest.skip(f"reference data {DATA.name} are not beside this checkout")
    problem = problems.get("mnist", data=str(DATA))
    assert problem.potential.ndim == 7960
    assert len(problem.test[1]) == 9000
    point = relax(problem.potential, problem.potential.sample(1), tol=1e-4)
    outputs = problem.potential.predict(point.x, problem.test[0])[0]
    error = (outputs.argmax(1) != problem.test[1]).double().mean().item()
    assert 0.09 < error < 0.17
