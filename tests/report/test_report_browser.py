"""A report in a real browser: it starts without an error or a request, and clicks do what they should.

Needs Playwright and a Chromium: Debian's, the one that CHROMIUM names, or Playwright's own. Screenshots go to
report_screenshots/ (or where REPORT_SCREENSHOTS says).
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest
import torch
from reported import random_network

from torchscape import analysis, report
from torchscape.network import Network

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def browser():
    if not os.environ.get("TORCHSCAPE_BROWSER"):
        pytest.skip("drives a browser: run with scripts/browser_test")
    from playwright.sync_api import sync_playwright

    own = os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("chromium-browser")
    with sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=own, args=["--no-sandbox"])
        yield opened
        opened.close()


class Opened:
    """A report in the browser, with what it has said and asked for."""

    def __init__(self, browser, path: Path, width: int = 1600, height: int = 1000) -> None:
        self.page = browser.new_page(viewport={"width": width, "height": height})
        self.said: list[str] = []
        self.asked: list[str] = []
        self.page.on("console", lambda told: self.said.append(f"{told.type}: {told.text}"))
        self.page.on("pageerror", lambda error: self.said.append(f"error: {error}"))
        self.page.on("request", lambda one: self.asked.append(one.url))
        self.page.goto(path.resolve().as_uri())
        self.page.wait_for_function("document.documentElement.dataset.ready === 'yes'", timeout=60_000)
        self.page.wait_for_timeout(300)

    def js(self, code: str):
        return self.page.evaluate(code)

    @property
    def complaints(self) -> list[str]:
        return [one for one in self.said if one.startswith(("error", "warning"))]

    def chosen(self) -> list[int]:
        return self.js("torchscape.parts().minima.selected.indices")

    def click_in(self, name: str, x: float, y: float) -> None:
        """Click a figure at these coordinates of its axes."""
        self.page.locator(f".figure.{name}").scroll_into_view_if_needed()
        at = self.js(
            f"""(() => {{
            const f = Bokeh.documents[0].get_model_by_name("{name}");
            const view = Bokeh.index.find_one(f);
            const box = view.canvas_view.el.getBoundingClientRect(), frame = view.frame;
            return [box.x + frame.x_scale.compute({x}), box.y + frame.y_scale.compute({y})];
            }})()"""
        )
        self.page.mouse.click(*at)
        self.page.wait_for_timeout(350)  # Bokeh waits whether a second click follows

    def at(self, name: str, k: int) -> tuple[float, float]:
        x, y = {"tree": ("tree_x", "tip"), "network": ("x", "y"), "depth": ("above", "barrier")}[name]
        return tuple(
            self.js(f"[torchscape.parts().minima.data.{x}[{k}], torchscape.parts().minima.data.{y}[{k}]]")
        )

    def picture(self, name: str) -> None:
        folder = Path(os.environ.get("REPORT_SCREENSHOTS", "report_screenshots"))
        folder.mkdir(exist_ok=True)
        self.page.screenshot(path=folder / f"{name}.png", full_page=True)


@pytest.fixture(scope="module")
def network() -> Network:
    return random_network(60, seed=1, n_trees=2, properties={"accuracy": torch.linspace(0.5, 1, 60)})


@pytest.fixture(scope="module")
def opened(browser, network, tmp_path_factory) -> Opened:
    return Opened(browser, report.write(network, tmp_path_factory.mktemp("report") / "report.html"))


def test_it_starts_without_an_error_or_a_request(opened):
    assert opened.complaints == []
    assert len(opened.asked) == 1
    assert opened.asked[0].startswith("file://")


@pytest.mark.parametrize("name", ["tree", "network", "depth"])
def test_a_click_in_a_figure_chooses_in_all(opened, network, name):
    opened.js("torchscape.choose([])")
    order = network.levels.argsort(stable=True)
    k = 7
    opened.click_in(name, *opened.at(name, k))
    assert opened.chosen() == [k]
    for other in ("tree", "network", "depth"):
        assert opened.js(f"torchscape.parts().chosen_{other}.data.x.length") == 1
    assert str(int(network.ids[order[k]])) in opened.page.locator("#chosen-name").inner_text()
    assert opened.page.locator(".figure.table .slick-row .selected").count() > 0
    opened.js("torchscape.choose([])")
    assert opened.page.locator("#nothing").is_visible()
    assert opened.complaints == []


def test_a_row_of_the_table_chooses_in_all(opened):
    opened.js("torchscape.choose([])")
    opened.page.locator(".figure.table .slick-row").nth(3).locator(".slick-cell").nth(2).click()
    opened.page.wait_for_timeout(100)
    assert opened.chosen() == [3]
    assert opened.js("torchscape.parts().chosen_tree.data.x.length") == 1


def test_superbasins_and_paths_in_the_browser_are_those_of_the_analysis(opened, network):
    order = network.levels.argsort(stable=True)
    rank = order.argsort()
    levels = network.ts_levels[::11]
    for level, lowest in zip(levels.tolist(), analysis.superbasins(network, levels), strict=True):
        for k in (0, 9, 33):
            mine = lowest[order[k]]
            expected = rank[lowest == mine].tolist() if mine >= 0 else []
            assert sorted(opened.js(f"torchscape.superbasin({k}, {level!r})")) == sorted(expected)
    joined = network.connected_to(network.global_minimum)
    for k in (3, 8, 21, 40):
        if joined[order[k]]:
            route = analysis.minimax_path(network, int(order[k]), network.global_minimum)
            assert opened.js(f"torchscape.way({k}).minima") == rank[route.minima].tolist()


def test_what_is_chosen_lights_up(opened, network):
    order = network.levels.argsort(stable=True)
    rank = order.argsort()
    dies = analysis.merge_tree(network).dies_at
    k = next(k for k in range(5, 60) if dies[order[k]].isfinite())
    opened.js(f"torchscape.choose([{k}])")
    lowest = analysis.superbasins(network, dies[order[k]][None])[0]
    members = set(rank[lowest == lowest[order[k]]].tolist())
    assert opened.js("torchscape.parts().lit_network.data.x.length") == len(members) - 1
    assert opened.js("torchscape.parts().threshold_span.location") == float(dies[order[k]])
    n_edges = opened.js(f"torchscape.way({k}).edges.length")
    assert opened.js("torchscape.parts().way_lines.data.x.length") == 3 * n_edges
    assert opened.js("torchscape.parts().profile_points.data.x.length") == 2 * n_edges + 1
    opened.js("torchscape.setThreshold(torchscape.parts().minima.data.tip[0] - 1)")
    assert opened.js("torchscape.parts().lit_tree.data.x.length") == 0


def test_the_temperature_slider_moves_occupations(opened, network):
    order = network.levels.argsort(stable=True)
    slider = opened.page.locator("#temperature")
    for place in ("0", "150"):
        slider.fill(place)
        t = opened.js(f"torchscape.parts().curves.data.temperatures[{place}]")
        expected = analysis.occupation(network, t)
        mine = torch.tensor(opened.js(f"Array.from(torchscape.occupation({place}))"), dtype=torch.float64)
        torch.testing.assert_close(mine, expected[order], rtol=1e-9, atol=1e-15)
        shown = opened.js("torchscape.parts().occupied.data.share")
        assert shown == sorted(shown, reverse=True)
        assert abs(shown[0] - float(expected.max())) < 1e-12
        assert opened.js("torchscape.parts().temperature_span.location") == t


def test_a_bar_of_the_occupation_chooses_its_minimum(opened):
    opened.js("torchscape.choose([])")
    opened.js("torchscape.parts().occupied.selected.indices = [2]")
    assert opened.chosen() == [opened.js("torchscape.parts().occupied.data.k[2]")]


def test_colours_and_search(opened, network):
    opened.page.locator("#colour").select_option(label="accuracy")
    colour = torch.tensor(opened.js("Array.from(torchscape.parts().minima.data.colour)"))
    accuracy = network.properties["accuracy"][network.levels.argsort(stable=True)]
    torch.testing.assert_close(colour.double(), (accuracy.double() - 0.5) / 0.5, atol=1e-6, rtol=0)
    opened.page.locator("#search").fill(str(int(network.ids[network.levels.argsort(stable=True)[11]])))
    assert opened.chosen() == [11]
    opened.page.locator("#search").fill("no such id")
    assert opened.page.locator("#search.unknown").count() == 1
    opened.page.locator("#search").fill("")


def test_names_of_strangers_are_no_markup(browser, tmp_path):
    name = '</script><b class="markup">accuracy</b>'
    network = Network.of([0.0, 1.0], [(0, 1)], [2.0], properties={name: torch.tensor([1.0, 2.0])})
    shown = Opened(browser, report.write(network, tmp_path / "report.html", title=name, unit=name))
    shown.js("torchscape.choose([1])")
    shown.page.locator("#colour").select_option(index=9)
    shown.page.mouse.move(400, 400)
    shown.page.wait_for_timeout(200)
    assert shown.page.locator("b.markup").count() == 0  # within shadow roots, too
    assert len(shown.asked) == 1
    assert shown.complaints == []


@pytest.mark.parametrize(("title", "value", "is_bold"), [("bold", "plain", True), ("plain", "bold", False)])
def test_titles_of_a_bokeh_table_are_html(browser, tmp_path, title, value, is_bold):
    """What the package escapes: where this fails, Bokeh does so itself, and names would be escaped twice."""
    from bokeh.embed import file_html
    from bokeh.models import ColumnDataSource, DataTable, TableColumn
    from bokeh.resources import INLINE

    words = {"bold": '<b class="markup">a</b>', "plain": "a"}
    table = DataTable(
        source=ColumnDataSource({"a": [words[value]]}), columns=[TableColumn(field="a", title=words[title])]
    )
    path = tmp_path / "table.html"
    path.write_text(file_html([table], INLINE, title="table"), encoding="utf-8")
    page = browser.new_page()
    page.goto(path.as_uri())
    page.wait_for_selector(".slick-row")
    page.wait_for_timeout(300)
    assert (page.locator("b.markup").count() > 0) is is_bold  # looked for within shadow roots, too


def test_ten_thousand_minima_do_not_stall(browser, tmp_path):
    """Every answer to a click is there before a second has passed, on a machine that draws in software."""
    network = random_network(10_000, seed=2, extra=20_000)
    shown = Opened(browser, report.write(network, tmp_path / "report.html"))
    assert shown.js("torchscape.parts().minima.data.id.length") == 10_000
    for code in ("torchscape.choose([4321])", "torchscape.choose([0])", "torchscape.choose([])"):
        shown.js(code)
        assert shown.page.wait_for_function("true", timeout=5_000)
    shown.picture("ten_thousand")
    assert shown.complaints == []
