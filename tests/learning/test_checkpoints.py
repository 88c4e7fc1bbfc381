"""Checkpoints: what files hold and what wrappers do to names; which are the same, and what lies between."""

from __future__ import annotations

import dataclasses
import json
import math

import pytest
import torch
from torch import nn

import torchscape as tsc
from torchscape import analysis
from torchscape.cli import main
from torchscape.errors import PotentialError, TorchscapeError
from torchscape.learning import checkpoints as subject
from torchscape.learning import compare_checkpoints
from torchscape.potentials.module.checkpoints import checkpoint_point, read_state

MODEL = """
import torch, torchscape as tsc
from torch import nn

torch.manual_seed(0)
X = torch.linspace(-2, 2, 16)[:, None].double()
Y = torch.sin(4 * X)
net = nn.Sequential(nn.Linear(1, 3), nn.Tanh(), nn.Linear(3, 1))
potential = tsc.ModulePotential(net, (X, Y), nn.functional.mse_loss, l2=4e-3)
held_out = X[::3] + 0.05, torch.sin(4 * X[::3])
"""


def network(seed: int, hidden: int = 3) -> nn.Module:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(1, hidden), nn.Tanh(), nn.Linear(hidden, 1)).double()


@pytest.fixture(scope="module")
def potential() -> tsc.ModulePotential:
    x = torch.linspace(-2, 2, 16)[:, None].double()
    return tsc.ModulePotential(network(0), (x, torch.sin(4 * x)), nn.functional.mse_loss, l2=4e-3)


class TestFiles:
    @pytest.mark.parametrize(
        "saved",
        [
            lambda state: state,
            lambda state: {"state_dict": {f"model.{n}": v for n, v in state.items()}, "epoch": 3},  # Lightning
            lambda state: {f"module.{n}": v for n, v in state.items()},  # DataParallel
            lambda state: {f"_orig_mod.{n}": v for n, v in state.items()},  # torch.compile
            lambda state: {f"module._orig_mod.{n}": v for n, v in state.items()},
            lambda state: {"model_state_dict": state, "optimizer_state_dict": {"lr": 0.1}},
            lambda state: {"encoder.x": torch.zeros(1), **{f"head.net.{n}": v for n, v in state.items()}},
        ],
    )
    def test_names_that_wrappers_give(self, potential, tmp_path, saved):
        net = network(1)
        torch.save(saved(net.state_dict()), tmp_path / "a.pt")
        assert torch.equal(checkpoint_point(potential, tmp_path / "a.pt"), potential.flatten(net))

    def test_what_the_wrappers_themselves_write(self, potential, tmp_path):
        """Not names that were written down here: those of torch."""
        net = network(1)
        for k, wrapped in enumerate((nn.DataParallel(net), torch.compile(net))):
            torch.save(wrapped.state_dict(), tmp_path / f"{k}.pt")
            assert torch.equal(checkpoint_point(potential, tmp_path / f"{k}.pt"), potential.flatten(net))

    def test_safetensors(self, potential, tmp_path):
        safetensors = pytest.importorskip("safetensors.torch")
        net = network(1)
        safetensors.save_file(net.state_dict(), tmp_path / "a.safetensors")
        assert torch.equal(checkpoint_point(potential, tmp_path / "a.safetensors"), potential.flatten(net))

    def test_modules_and_rows(self, potential):
        net = network(1)
        x = potential.flatten(net)
        assert torch.equal(checkpoint_point(potential, net), x)
        assert torch.equal(checkpoint_point(potential, x), x)

    def test_a_pickled_module_is_not_run(self, potential, tmp_path):
        torch.save(network(1), tmp_path / "module.pt")
        with pytest.raises(TorchscapeError, match=r"torch\.save\(model\.state_dict\(\), path\)"):
            read_state(tmp_path / "module.pt")

    @pytest.mark.parametrize(
        ("content", "words"),
        [([1, 2], "no state dict"), ({"lr": 0.1}, "no state dict")],
    )
    def test_files_without_tensors(self, tmp_path, content, words):
        torch.save(content, tmp_path / "a.pt")
        with pytest.raises(TorchscapeError, match=words):
            read_state(tmp_path / "a.pt")
        with pytest.raises(TorchscapeError, match="no file"):
            read_state(tmp_path / "b.pt")

    def test_other_architectures(self, potential):
        with pytest.raises(PotentialError, match=r"0\.weight has shape \[4, 1\], in the potential \[3, 1\]"):
            checkpoint_point(potential, network(1, hidden=4).state_dict(), "wide")
        deep = {**network(1).state_dict(), "3.weight": torch.ones(1)}
        with pytest.raises(PotentialError, match=r"deep: the potential has no 3\.weight"):
            checkpoint_point(potential, deep, "deep")
        with pytest.raises(PotentialError, match=r"half: no 2\.weight, 2\.bias in it"):
            checkpoint_point(potential, nn.Sequential(nn.Linear(1, 3)).state_dict(), "half")
        with pytest.raises(PotentialError, match="a row of 10 coordinates"):
            checkpoint_point(potential, torch.zeros(9), "row")

    def test_other_buffers(self):
        def net(mean):
            made = nn.Sequential(nn.Linear(1, 3), nn.BatchNorm1d(3), nn.Linear(3, 1)).double().eval()
            made[1].running_mean.fill_(mean)
            return made

        x = torch.linspace(-2, 2, 16)[:, None]
        u = tsc.ModulePotential(net(0.0), (x, x), nn.functional.mse_loss)
        with pytest.raises(PotentialError, match="running_mean"):
            checkpoint_point(u, net(1.0).state_dict())


HELD_OUT = (torch.linspace(-1.9, 1.9, 7)[:, None].double(), torch.sin(4 * torch.linspace(-1.9, 1.9, 7)[:, None]))


@pytest.fixture(scope="module")
def compared(potential):
    """Two trainings, and the first with its units in another order and one of them turned over."""
    first, second = network(1), network(6)
    image = network(1)
    with torch.no_grad():
        for layer in (first[0], image[0]):
            assert layer.weight.shape == (3, 1)
        order, sign = [2, 0, 1], torch.tensor([-1.0, 1.0, 1.0]).double()
        image[0].weight.copy_(sign[:, None] * first[0].weight[order])
        image[0].bias.copy_(sign * first[0].bias[order])
        image[2].weight.copy_(sign * first[2].weight[:, order])
        image[2].bias.copy_(first[2].bias)
    with tsc.Landscape.in_memory(potential) as landscape:
        report = compare_checkpoints(
            landscape,
            potential,
            {"first": first, "image": image, "second": second},
            held_out=HELD_OUT,
            tolerance=0.0,
            progress=False,
        )
        yield report, landscape.network(coords=False), landscape.minima(), (first, image, second)


class TestComparison:
    def test_images_are_the_same_solution(self, compared, potential):
        report = compared[0]
        assert report.ids[0] == report.ids[1] != report.ids[2]
        assert sorted(map(len, report.same)) == [1, 2]
        assert report.plain[0, 1] > 0.5
        assert report.distance[0, 1] < 1e-6
        assert report.aligned_line[0, 1] == pytest.approx(report.energy[0].item(), abs=1e-10)
        assert report.line[0, 1] > report.energy[0] + 1e-3

    def test_losses_and_distances_are_those_of_the_modules(self, compared, potential):
        report, _, _, nets = compared
        for k, net in enumerate(nets):
            x = torch.linspace(-2, 2, 16)[:, None].double()
            parameters = torch.cat([p.detach().flatten() for p in net.parameters()])
            loss = nn.functional.mse_loss(net(x), torch.sin(4 * x)) + 4e-3 * parameters.square().sum()
            assert report.loss[k].item() == pytest.approx(loss.item(), rel=1e-12)
        assert (report.energy <= report.loss).all()
        assert torch.equal(report.distance, report.distance.T)

    def test_lines_by_hand(self, compared, potential):
        """The highest of 51 places between the minima, aligned by going through all 48 images."""
        report, _, _, nets = compared
        a, b = tsc.relax(potential, torch.stack([potential.flatten(net) for net in nets[::2]])).x
        t = torch.linspace(0, 1, 51).double()[:, None]
        images = []
        for order in torch.cartesian_prod(*[torch.arange(3)] * 3):
            if len(order.unique()) == 3:
                for sign in torch.cartesian_prod(*[torch.tensor([-1.0, 1.0]).double()] * 3):
                    w, c, v = (part[order] * sign for part in (b[:3], b[3:6], b[6:9]))
                    images.append(torch.cat([w, c, v, b[9:]]))
        closest = min(images, key=lambda image: (image - a).norm())
        assert report.distance[0, 2].item() == pytest.approx((closest - a).norm().item(), rel=1e-9)
        highest = potential.energy(a + t * (closest - a)).max()
        assert report.aligned_line[0, 2].item() == pytest.approx(highest.item(), rel=1e-9)

    def test_paths_are_those_of_the_network(self, compared):
        report, network, _, _ = compared
        place = network.position_of(report.ids[[0, 2]])
        expected = analysis.minimax(network)[place[0], place[1]].item()
        assert report.path[0, 2].item() == expected
        assert math.isfinite(expected)
        assert max(report.energy[0], report.energy[2]) < expected <= report.aligned_line[0, 2] + 1e-9
        assert report.path[0, 1] == pytest.approx(report.energy[0].item(), abs=1e-10)
        assert report.rise[0, 2].item() == pytest.approx(expected - report.energy[[0, 2]].max().item())
        assert report.rise[0, 1] == report.rise[1, 1] == 0.0

    def test_curvatures_are_those_of_the_hessian(self, compared, potential):
        report, network, minima, _ = compared
        for k in range(3):
            x = minima.x[network.position_of(report.ids[k : k + 1])]
            hessian = torch.autograd.functional.hessian(lambda row: potential.energy(row[None])[0], x[0])
            spectrum = torch.linalg.eigvalsh(hessian)
            # an error of 1e-3 of an eigenvector is one of 1e-6 of its eigenvalue
            assert report.top[k].item() == pytest.approx(spectrum[-1].item(), rel=1e-5)
            assert report.log_det[k].item() == pytest.approx(spectrum.log().sum().item(), rel=1e-6)

    def test_the_way_is_the_path_over_the_transition_states(self, compared, potential):
        """Every piece of it is short, and nothing on it is higher than the highest transition state."""
        report, network, _, _ = compared
        assert sorted(report.ways) == [(0, 2), (1, 2)]
        way = report.ways[0, 2]
        assert (way.minima[0], way.minima[-1]) == (report.ids[0].item(), report.ids[2].item())
        # energies of one point, in batches of other sizes; of the transition state as it is stored
        assert way.height == pytest.approx(report.path[0, 2].item(), abs=1e-9)
        heights = network.ts_energy[[network.ts_ids.tolist().index(i) for i in way.transition_states]]
        assert torch.allclose(way.energy[list(way.at_transition_states)], heights, atol=1e-9)
        assert torch.allclose(way.energy, potential.energy(way.x).detach(), atol=1e-12)
        steps = way.x.diff(dim=0).norm(dim=1)
        assert steps.max() < 0.1 * way.arc[-1]
        assert torch.allclose(way.arc.diff(), steps)
        between = (way.x[1:] + way.x[:-1]) / 2
        assert potential.energy(between).max() < way.height + 1e-3  # no jump to an image far away
        for bottom, top in zip(way.at_minima, way.at_transition_states, strict=False):
            assert (way.energy[bottom + 1 : top + 1].diff() > -1e-9).all()

    def test_held_out_losses_are_those_of_the_modules(self, compared, potential):
        report = compared[0]
        x, y = HELD_OUT
        for k in (0, len(report.ways[0, 2]) // 2, -1):
            net = network(0)
            nn.utils.vector_to_parameters(report.ways[0, 2].x[k], net.parameters())
            expected = nn.functional.mse_loss(net(x), y).item()
            assert report.along[0, 2].loss[k].item() == pytest.approx(expected, rel=1e-9)
        ends = report.along[0, 2].loss[[0, -1]]
        assert torch.allclose(ends, report.held_out.loss[[0, 2]], rtol=1e-6)  # of the image, quenched to 1e-8
        assert report.worst_on_the_way[0, 2] == report.along[0, 2].loss.max()
        assert report.worst_on_the_way[0, 1].item() == pytest.approx(report.held_out.loss[0].item())

    def test_the_tree_of_just_these(self, compared):
        report = compared[0]
        tree = report.network()
        assert (tree.n_minima, tree.n_edges) == (2, 1)
        assert tree.ts_energy[0] == report.path[0, 2]
        assert sorted(tree.ids.tolist()) == sorted(set(report.ids.tolist()))

    def test_bands_bound_the_barrier_from_above(self, compared):
        """The band is a path, too; it comes close to the saddle, far below the line."""
        report = compared[0]
        barrier = (report.path - report.energy.max())[0, 2]
        assert report.path[0, 2] - 1e-3 * barrier <= report.band[0, 2]
        assert report.band[0, 2] < report.path[0, 2] + 0.5 * (report.aligned_line - report.path)[0, 2]
        assert report.band[0, 1] == math.inf  # one minimum

    def test_valleys_are_ways_that_do_not_rise(self, compared):
        report = compared[0]
        rise = report.rise[0, 2].item()
        apart = dataclasses.replace(report, tolerance=0.99 * rise)
        assert apart.valleys == report.same
        assert "one valley" not in apart.describe()
        joined = dataclasses.replace(report, tolerance=1.01 * rise)
        assert joined.valleys == [("first", "image", "second")]
        assert f"one valley, rising {rise:.2g} at most" in joined.describe()
        assert joined.as_dict()["height"][0][2] == report.path[0, 2].item()

    def test_a_valley_needs_no_transition_state(self, potential):
        """Known by a band alone, and called a valley where that is low enough."""
        with tsc.Landscape.in_memory(potential) as landscape:
            named = {"a": network(1), "b": network(6)}
            report = compare_checkpoints(landscape, potential, named, strategies=(), tolerance=0.0, progress=False)
            higher = report.energy.max()
            assert report.path[0, 1] == math.inf
            assert report.rise[0, 1] == report.band[0, 1] - higher > 0
            assert not report.in_one_valley[0, 1]
            assert dataclasses.replace(report, tolerance=report.rise[0, 1].item()).in_one_valley.all()

    def test_a_valley_may_lead_over_others(self, compared):
        """a and c are joined by way of b alone; d is apart. What has to be climbed is the minimax of the lines."""
        import networkx as nx

        names = ("a", "b", "c", "d")
        energy = torch.tensor([1.0, 1.02, 0.99, 1.01]).double()
        line = torch.full((4, 4), 3.0).double()
        for i, j, height in ((0, 1, 1.06), (1, 2, 1.05)):
            line[i, j] = line[j, i] = height
        line.diagonal().copy_(energy)
        never = torch.full_like(line, math.inf)
        report = dataclasses.replace(
            compared[0], names=names, ids=torch.arange(4), energy=energy, line=line, aligned_line=never,
            band=never, path=never, tolerance=0.05, loss=energy, grad_rms=energy, moved=energy, log_det=energy,
            log_det_error=0 * energy, top=energy, plain=line, distance=line, held_out=None, ways={}, along={},
        )  # fmt: skip
        assert report.rise[0, 2].item() == pytest.approx(2.0)
        assert report.valleys == [("a", "b", "c"), ("d",)]
        graph = nx.Graph()
        graph.add_weighted_edges_from(
            (i, j, report.rise[i, j].item()) for i in range(3) for j in range(i) if report.in_one_valley[i, j]
        )
        tree = nx.minimum_spanning_tree(graph)
        most = max(weight for *_, weight in tree.edges(data="weight"))
        assert most == pytest.approx(0.04)
        assert f"one valley, rising {most:.2g} at most (within 0.05): a, b, c" in report.describe()

    def test_it_is_told(self, compared):
        told = compared[0].describe()
        assert "the same" in told
        assert len(told.splitlines()) == 1 + 3 + 1 + 1 + 3 + 4
        plain = compared[0].as_dict()
        assert json.loads(json.dumps(plain))["ways"][0]["pair"] == [0, 2]
        assert len(plain["ways"][0]["held_out"]["loss"]) == len(plain["ways"][0]["energy"])

    def test_one_is_too_few(self, potential):
        with tsc.Landscape.in_memory(potential) as landscape, pytest.raises(TorchscapeError, match="two or more"):
            compare_checkpoints(landscape, potential, {"a": network(1)})


def test_searches_lead_along_the_tree_of_shortest_distances():
    """By NetworkX; of checkpoints in one minimum one stands for all, one without a minimum is left out."""
    import networkx as nx

    ids = torch.tensor([4, 7, 4, -1, 9, 2])
    x = torch.randn(6, 3, generator=torch.Generator().manual_seed(0)).double()
    x[2] = x[0]
    distance = torch.cdist(x, x)
    graph = nx.Graph()
    graph.add_weighted_edges_from(
        (int(ids[i]), int(ids[j]), distance[i, j].item()) for i in (0, 1, 4, 5) for j in (0, 1, 4, 5) if i < j
    )
    found = subject._joining(ids, distance)
    assert {frozenset((s.a, s.b)) for s in found} == {frozenset(e) for e in nx.minimum_spanning_tree(graph).edges}
    assert subject._joining(torch.tensor([3, 3]), torch.zeros(2, 2).double()) == []


def test_on_a_device(device):
    """Places, curvatures and held-out losses are those of the host; nothing mixes the two."""
    x = torch.linspace(-2, 2, 16)[:, None].double()
    module, loss = network(0, hidden=2), nn.functional.mse_loss
    told = []
    for where in ("cpu", device):
        u = tsc.ModulePotential(module, (x, torch.sin(4 * x)), loss, l2=4e-3, device=where)
        with tsc.Landscape.in_memory(u) as landscape:
            named = {"a": network(1, hidden=2), "b": network(6, hidden=2)}
            told.append(compare_checkpoints(landscape, u, named, held_out=HELD_OUT, progress=False))
    host, there = told
    for way in there.ways.values():
        assert way.x.device.type == way.energy.device.type == way.arc.device.type == device.type
    assert there.describe().splitlines()[:3] == host.describe().splitlines()[:3]
    assert torch.allclose(there.path, host.path, atol=1e-9)  # of points at an RMS gradient of 1e-8
    assert torch.allclose(
        there.worst_on_the_way, host.worst_on_the_way, rtol=1e-3, equal_nan=True
    )  # kept points differ


def test_from_the_shell(tmp_path, capsys):
    (tmp_path / "model.py").write_text(MODEL)
    for seed, folder in ((1, "a"), (6, "b")):
        (tmp_path / folder).mkdir()
        torch.save(network(seed).state_dict(), tmp_path / folder / "last.pt")
    files = [str(tmp_path / folder / "last.pt") for folder in "ab"]
    line = [
        "checkpoints",
        f"{tmp_path / 'model.py'}:potential",
        *files,
        "--db",
        str(tmp_path / "run.db"),
        "--quiet",
    ]
    assert main([*line, "--max-time", "0", "--tolerance", "10", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["names"] == ["a/last", "b/last"]
    assert told["path"][0][1] is None
    assert sorted(map(sorted, told["valleys"])) == [["a/last", "b/last"]]
    shown = [*line, "--held-out", f"{tmp_path / 'model.py'}:held_out", "--tree", str(tmp_path / "tree.png")]
    assert main(shown) == 0
    told = capsys.readouterr().out
    assert "a/last - b/last" in told
    assert "held out: loss" in told
    assert (tmp_path / "tree.png").stat().st_size > 5000
    assert main([*line, "--held-out", f"{tmp_path / 'model.py'}:X"]) == 2
    assert "let it be a tuple of tensors" in capsys.readouterr().err
    lost = [*line[:-3], str(tmp_path / "never.pt"), "--db", str(tmp_path / "never.db")]
    assert main(lost) == 2
    assert "there is no file" in capsys.readouterr().err
    assert not (tmp_path / "never.db").exists()
    assert main(["checkpoints", "himmelblau", *files, "--db", str(tmp_path / "h.db")]) == 2
    assert "no ModulePotential" in capsys.readouterr().err
