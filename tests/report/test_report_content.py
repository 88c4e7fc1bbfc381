"""What a report holds is what the analysis says, whole, and in a form that a browser reads as it was meant."""

from __future__ import annotations

import base64
import gzip
import html
import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from reported import random_network

import torchscape as tsc
from torchscape import analysis, export, report
from torchscape.cli import main
from torchscape.errors import MissingExtra, TorchscapeError
from torchscape.landscape import Landscape
from torchscape.network import Network
from torchscape.plots.springs import spring_layout
from torchscape.report.confusion import confusion, training_pair
from torchscape.report.gathering import gather
from torchscape.report.history import duration
from torchscape.report.shown import choose, ways_down

pytest.importorskip("bokeh")


def sources(path) -> dict[str, dict]:
    """The data sources in a file, by name, read from its text as a browser reads it."""
    text = path.read_text(encoding="utf-8")
    found = re.findall(r'<script type="application/json" id="[^"]+">(.*?)</script>', text, re.S)
    (document,) = [json.loads(html.unescape(one), parse_constant=refuse) for one in found if "roots" in one]
    held: dict[str, dict] = {}
    walk(document, held)
    return held


def refuse(token: str):
    raise AssertionError(f"{token} is no JSON")


def walk(value, held: dict[str, dict]) -> None:
    if isinstance(value, dict):
        if value.get("name") == "ColumnDataSource" and "name" in value.get("attributes", {}):
            entries = value["attributes"]["data"]["entries"]
            held[value["attributes"]["name"]] = {name: column(data) for name, data in entries}
        for one in value.values():
            walk(one, held)
    elif isinstance(value, list):
        for one in value:
            walk(one, held)


def column(data):
    if isinstance(data, dict) and data.get("type") == "ndarray":
        raw = gzip.decompress(base64.b64decode(data["array"]["data"]))
        return np.frombuffer(raw, np.dtype(data["dtype"]).newbyteorder("<")).reshape(data["shape"])
    assert not (isinstance(data, list) and any(isinstance(one, float) for one in data)), "floats go as bytes"
    return data


def superbasin(held: dict[str, dict], k: int, energy: float) -> set[int]:
    """As the page finds it: the run of leaves around k whose gaps lie at or below the energy."""
    leaves, gap = held["leaves"]["minimum"], held["gaps"]["gap"]
    if held["minima"]["tip"][k] > energy:
        return set()
    first = last = int(held["minima"]["place"][k])
    while first > 0 and gap[first - 1] <= energy:
        first -= 1
    while last < len(gap) and gap[last] <= energy:
        last += 1
    return set(leaves[first : last + 1].tolist())


def way(held: dict[str, dict], k: int) -> tuple[list[int], list[int]]:
    minima, edges = [k], []
    while held["minima"]["next"][k] >= 0:
        edges.append(int(held["minima"]["next_edge"][k]))
        k = int(held["minima"]["next"][k])
        minima.append(k)
    return minima, edges


@pytest.fixture(scope="module")
def network() -> Network:
    return random_network(60, seed=1, n_trees=2)


@pytest.fixture(scope="module")
def written(network, tmp_path_factory) -> Path:
    return report.write(network, tmp_path_factory.mktemp("report") / "report.html")


@pytest.fixture(scope="module")
def held(written) -> dict[str, dict]:
    return sources(written)


@pytest.fixture
def briefly(monkeypatch):
    """Pages of which nothing but the title is drawn, where only their files matter."""
    monkeypatch.setattr("torchscape.report.page.page", lambda content, mark: f"{mark}{content.title}")


def test_every_minimum_is_there_under_its_id(network, held):
    order = network.levels.argsort(stable=True)
    assert held["minima"]["id"] == [str(one) for one in network.ids[order].tolist()]
    np.testing.assert_array_equal(held["minima"]["energy"], network.energy[order].numpy())
    np.testing.assert_array_equal(held["minima"]["degree"], analysis.degrees(network)[order].numpy())
    assert held["edges"]["ts"]
    assert all(isinstance(one, str) for one in held["edges"]["ts"])
    assert sorted(map(int, held["edges"]["ts"])) == network.ts_ids.tolist()


def test_superbasins_are_those_of_the_analysis(network, held):
    order = network.levels.argsort(stable=True)
    rank = order.argsort()
    levels = torch.cat([network.ts_levels[::7], network.levels[::9] + 1e-9])
    expected = analysis.superbasins(network, levels)
    for level, lowest in zip(levels.tolist(), expected, strict=True):
        for k in range(0, network.n_minima, 5):
            mine = int(lowest[order[k]])
            members = {int(rank[j]) for j in (lowest == mine).nonzero()[:, 0]} if mine >= 0 else set()
            assert superbasin(held, k, level) == members


def test_paths_are_those_of_the_analysis(network, held):
    order, rank = network.levels.argsort(stable=True), network.levels.argsort(stable=True).argsort()
    ts = np.asarray(held["edges"]["ts"])
    joined = network.connected_to(network.global_minimum)
    ended = set()
    for k in range(network.n_minima):
        minima, edges = way(held, k)
        ended.add(minima[-1])
        if not joined[order[k]]:
            continue
        route = analysis.minimax_path(network, int(order[k]), network.global_minimum)
        assert minima == rank[route.minima].tolist()
        assert [int(one) for one in ts[edges]] == network.ts_ids[route.transition_states].tolist()
    assert ended == {0, int(rank[network.components() == 1].min())}


def test_occupations_follow_from_the_columns(network, held):
    minima, curves = held["minima"], held["curves"]
    order = network.levels.argsort(stable=True)
    for place in (0, 77, len(curves["temperatures"]) - 1):
        t = curves["temperatures"][place]
        mine = np.exp(
            minima["constant"] - minima["gap"] / t + minima["power"] * np.log(t) - curves["log_z"][place]
        )
        np.testing.assert_allclose(
            mine, analysis.occupation(network, float(t))[order].numpy(), rtol=1e-9, atol=1e-300
        )
    expected = analysis.heat_capacity(network, torch.tensor(curves["temperatures"].copy()))
    np.testing.assert_allclose(curves["mean_energy"], expected.mean_energy.numpy(), rtol=1e-12)


def test_a_few_of_many_minima_keep_their_paths_barriers_and_weights():
    network = random_network(300, seed=3, n_trees=2)
    shown = choose(network, 40)
    n = shown.network.n_minima
    assert 40 <= n < 300
    assert shown.n_all == 300
    assert set(network.levels.argsort(stable=True)[:40].tolist()) <= set(shown.positions.tolist())
    assert torch.equal(shown.barrier, analysis.persistence(network)[shown.positions])
    whole = analysis.minimax_to(network)[shown.positions]
    assert torch.equal(analysis.minimax_to(shown.network, 0), whole)
    for k in (5, 17, n - 1):
        if whole[k].isinf():
            continue
        route = analysis.minimax_path(network, int(shown.positions[k]), network.global_minimum)
        mine, at = [int(shown.positions[k])], k
        while shown.next[at] >= 0:
            at = int(shown.next[at])
            mine.append(int(shown.positions[at]))
        assert mine == route.minima.tolist()


def test_ways_down_lead_to_the_lowest_of_each_component():
    network = random_network(80, seed=5, n_trees=3)
    following, edge = ways_down(network)
    ends = (following < 0).nonzero()[:, 0]
    label = network.components()
    assert len(ends) == 3
    for end in ends.tolist():
        members = label == label[end]
        assert network.energy[end] == network.energy[members].min()
    a, b = network.edges[:, edge[following >= 0]]
    k = (following >= 0).nonzero()[:, 0]
    assert torch.equal(torch.stack([a, b]).sort(0).values, torch.stack([k, following[k]]).sort(0).values)


def test_many_points_are_laid_out_by_some_of_them_as_by_all():
    """Beyond 3000 points each step feels 750 of them: a long ladder stays one, its rungs short."""
    n = 3200
    rungs = np.arange(n).reshape(-1, 2)
    pairs = np.concatenate([rungs, np.stack([rungs[:-1].T, rungs[1:].T], 2).reshape(-1, 2)])
    along = np.repeat(np.linspace(0.0, 1.0, n // 2), 2)
    start = np.stack([along, 0.01 * np.random.default_rng(0).standard_normal(n)], 1)
    xy = spring_layout(start, pairs, n_steps=10)
    assert np.isfinite(xy).all()
    lengths = np.linalg.norm(xy[pairs[:, 0]] - xy[pairs[:, 1]], axis=1)
    assert np.median(lengths) < 0.05 * np.ptp(xy, axis=0).max()
    assert np.corrcoef(xy[:, 0], along)[0, 1] > 0.9


@pytest.mark.parametrize(
    "network",
    [
        Network.of([1.5], [], []),
        Network.of([0.0, 1.0, 1.0], [], []),
        Network.of([0.0, 0.0], [(0, 1)], [1.0], log_det=[float("nan"), 0.0]),
        Network.of([0.0, 1.0], [(0, 1), (0, 1)], [2.0, 3.0], hits=[0, 0], ids=[2**62, 7]),
        Network.of(
            [-1e6, -1e6 + 1e-3], [(0, 1)], [-1e6 + 2e-3], properties={"odd": torch.tensor([torch.inf, 1.0])}
        ),
    ],
    ids=["one minimum", "nothing connected", "curvature unknown", "never hit, huge id", "infinite property"],
)
def test_odd_networks_have_reports(network, tmp_path):
    held = sources(report.write(network, tmp_path / "report.html"))
    assert len(held["minima"]["id"]) == network.n_minima
    assert set(held["minima"]["id"]) == {str(one) for one in network.ids.tolist()}
    for values in held["minima"].values():
        assert isinstance(values, list) or not np.isinf(values).any()


def test_names_of_strangers_stay_words(tmp_path):
    name = '</script><b class="markup">accuracy</b>'
    network = Network.of([0.0, 1.0], [(0, 1)], [2.0], properties={name: torch.tensor([1.0, 2.0])})
    text = report.write(network, tmp_path / "report.html", title=name, unit=name).read_text(encoding="utf-8")
    assert '<b class="markup"' not in text
    assert "</script><b" not in text


def test_nothing_but_a_report_is_replaced(briefly, tmp_path):
    network = Network.of([0.0, 1.0], [(0, 1)], [2.0])
    other = tmp_path / "mine.html"
    other.write_text("<!DOCTYPE html><title>my own page</title>")
    with pytest.raises(TorchscapeError, match="of another kind"):
        report.write(network, other)
    path = report.write(network, tmp_path / "report.html", title="first")
    assert "second" in report.write(network, path, title="second").read_text(encoding="utf-8")


def test_a_report_asks_nothing_of_a_network(written):
    text = written.read_text(encoding="utf-8")
    assert not re.findall(r"<script[^>]+src=", text)
    page = re.sub(r"<script.*?</script>", "", text, flags=re.S)
    assert not re.findall(r"<(?:link|img|iframe)|url\(|https?:", page)
    assert len(text) < 4_000_000


def test_wrong_things_are_refused_with_advice(tmp_path):
    with pytest.raises(TorchscapeError, match="explore first"):
        report.write(Network.of([], [], []), tmp_path / "report.html")
    with pytest.raises(TorchscapeError, match="ModulePotential"):
        report.write(
            Network.of([0.0], [], []), tmp_path / "r.html", held_out=(torch.ones(2, 1), torch.ones(2).long())
        )
    assert not list(tmp_path.iterdir())


def test_without_bokeh_the_extra_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "bokeh.embed", None)
    with pytest.raises(MissingExtra, match=r"torchscape\[report\]"):
        report.write(Network.of([0.0], [], []), tmp_path / "report.html")


def test_open_shows_the_file_in_the_browser(briefly, monkeypatch):
    shown = []
    monkeypatch.setattr("webbrowser.open", shown.append)
    path = report.open(Network.of([0.0, 1.0], [(0, 1)], [2.0]))
    assert path.is_file()
    assert shown == [path.as_uri()]


# --- of a landscape -------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def classifier() -> tuple[tsc.ModulePotential, Landscape]:
    g = torch.Generator().manual_seed(0)
    x = torch.randn(40, 2, generator=g)
    y = (x[:, 0] * x[:, 1] > 0).long() + (x[:, 0] > 1).long()
    torch.manual_seed(0)
    net = torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.Tanh(), torch.nn.Linear(2, 3))
    u = tsc.ModulePotential(net, (x, y), torch.nn.functional.cross_entropy, l2=1e-2)
    landscape = Landscape.in_memory(u)
    strategies = [tsc.BasinHopping(walkers=4, hops=3), tsc.ConnectMinima(neighbours=2)]
    tsc.explore(landscape, u, strategies=strategies, progress=False)
    return u, landscape


def test_a_landscape_brings_its_journal_and_confusion_matrices(classifier, tmp_path):
    u, landscape = classifier
    path = report.write(landscape, tmp_path / "report.html")
    held = sources(path)
    network = landscape.network(coords=True)
    inputs, labels = training_pair(u)
    n, c = network.n_minima, 3
    counts = held["confusions"]["n"].reshape(n, c, c)
    guessed = u.predict(network.coords, inputs).argmax(2)
    for k in range(n):
        for true in range(c):
            for said in range(c):
                assert counts[k, true, said] == int(((labels == true) & (guessed[k] == said)).sum())
    right = (guessed == labels).double().mean(1)
    np.testing.assert_allclose(held["minima"]["p0"], right.numpy())
    text = path.read_text(encoding="utf-8")
    assert "BasinHopping(" in text
    assert landscape.runs()[0]["started"][:10] in text


def test_tasks_say_what_each_found_first(classifier):
    _, landscape = classifier
    tasks = landscape.tasks()
    assert len(tasks) == landscape.n_tasks()
    assert sum(task["n_evaluations"] for task in tasks) == landscape.n_evaluations()
    assert sum(task["n_minima"] for task in tasks) == landscape.n_minima
    assert sum(task["n_transition_states"] for task in tasks) == landscape.n_transition_states
    assert min(task["lowest"] for task in tasks if task["lowest"] is not None) == landscape.network().energy.min()


def test_held_out_data_are_classified_instead(classifier):
    u, landscape = classifier
    x, y = torch.tensor([[1.0, 1.0], [-1.0, 1.0]]), torch.tensor([1, 0])
    network = landscape.network(coords=True)
    content = gather(
        network, None, u, held_out=(x, y), temperatures=[0.1, 0.2], lowest=9, title="", unit=None, seed=0
    )
    assert content.confusion.of == "held-out data"
    assert (content.confusion.counts.sum((1, 2)) == 2).all()
    guessed = u.predict(content.shown.network.coords, x).argmax(2)
    assert content.confusion.accuracy.tolist() == (guessed == y).double().mean(1).tolist()


def test_what_is_no_classification_has_no_matrix():
    g = torch.Generator().manual_seed(1)
    x = torch.randn(6, 2, generator=g)
    net = torch.nn.Linear(2, 1)
    regression = tsc.ModulePotential(net, (x, x[:, :1]), torch.nn.functional.mse_loss)
    assert training_pair(regression) is None
    counts = torch.tensor([0, 3, 2, 0, 1, 4])
    assert confusion(regression, regression.sample(2), (x,), counts, "training data") is None
    logit = confusion(regression, regression.sample(2), (x,), counts.clamp(max=1), "training data")
    assert logit.counts.shape == (2, 2, 2)
    assert logit.counts.sum() == 12


def test_durations():
    assert [duration(s) for s in (0, 61, 3600, 90061)] == ["0 s", "1 min 1 s", "1 h", "1 d 1 h"]


# --- from the shell -------------------------------------------------------------------------------------------


def test_the_shell_writes_reports_of_files_and_of_pathsample_folders(network, tmp_path, capsys):
    surface = tsc.FunctionPotential(lambda x: (x[0] ** 2 - 1) ** 2 + x[1] ** 2 + 0.1 * x[0], 2)
    with Landscape.open(tmp_path / "run.db", surface) as landscape:
        tsc.explore(landscape, surface, strategies=[tsc.BasinHopping(walkers=4, hops=2)], progress=False)
    assert main(["report", str(tmp_path / "run.db"), "-o", str(tmp_path / "run.html"), "--unit", "eV"]) == 0
    assert len(sources(tmp_path / "run.html")["minima"]["id"]) == 2
    export.write_pathsample(network, tmp_path / "folder")
    assert main(["report", str(tmp_path / "folder"), "-o", str(tmp_path / "f.html"), "--lowest", "9"]) == 0
    held = sources(tmp_path / "f.html")
    assert 9 <= len(held["minima"]["id"]) < network.n_minima
    assert "hit counts say nothing" in (tmp_path / "f.html").read_text(encoding="utf-8")
    assert capsys.readouterr().out.split() == [str(tmp_path / name) for name in ("run.html", "f.html")]
    assert main(["report", str(tmp_path / "run.db"), "-o", str(tmp_path / "run.db")]) == 2
    assert "which nothing replaces" in capsys.readouterr().err
