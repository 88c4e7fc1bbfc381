// What happens in a report when something is chosen, or a slider moves. Everything is computed from the sources that
// the figures share; nothing is asked of a network.
"use strict";

window.torchscape = (() => {
  const facts = JSON.parse(document.getElementById("facts").textContent);
  const NONE = "\u2013"; // where there is no number
  const MOST_WAYS = 20; // paths that are drawn when many minima are chosen at once
  const MOST_BARS = 14;
  const AXES = { tree: ["tree_x", "tip"], network: ["x", "y"], depth: ["above", "barrier"] };
  let parts = null; // sources and spans, by name
  let shade = null; // the quantity that colours
  let threshold = null; // energy up to which superbasins reach
  let temperature = facts.start; // place on the grid
  let degrees = []; // places of the transition states of each minimum

  const byId = (name) => document.getElementById(name);
  const column = (name) => parts.minima.data[name];

  // --- numbers and words ---------------------------------------------------------------------------------------

  function written(value, digits = 7) {
    if (value === null || value === undefined || !Number.isFinite(value)) return NONE;
    if (Number.isInteger(value) && Math.abs(value) < 1e15) return String(value);
    const size = Math.abs(value);
    if (size < 1e-4 || size >= 1e9) return value.toExponential(digits - 1).replace(/\.?0*e/, "e").replace("e+", "e");
    return String(Number(value.toPrecision(digits)));
  }

  const withUnit = (value) => written(value) + (facts.unit && Number.isFinite(value) ? ` ${facts.unit}` : "");
  const counted = (n, one, many) => `${n} ${n === 1 ? one : many}`;

  function row(cells, head = false) {
    const made = document.createElement("tr");
    for (const text of cells) {
      const cell = document.createElement(head ? "th" : "td");
      cell.textContent = text;
      made.appendChild(cell);
    }
    return made;
  }

  // --- what belongs to a minimum -------------------------------------------------------------------------------

  // Places in the merge tree, from and to, of the minima that k reaches without rising above the energy.
  function range(k, energy) {
    const gap = parts.gaps.data.gap;
    let from = column("place")[k];
    let to = from;
    if (!(column("tip")[k] <= energy)) return [from, from - 1];
    while (from > 0 && gap[from - 1] <= energy) from -= 1;
    while (to < gap.length && gap[to] <= energy) to += 1;
    return [from, to];
  }

  // The minima of the superbasin of k at that energy; none where k itself lies above it.
  function superbasin(k, energy) {
    const [from, to] = range(k, energy);
    return Array.from(parts.leaves.data.minimum.slice(from, to + 1));
  }

  // The lowest path from k to the lowest minimum that is connected with it: minima, and transition states between.
  function way(k) {
    const minima = [k];
    const edges = [];
    const next = column("next");
    const edge = column("next_edge");
    while (next[k] >= 0) {
      edges.push(edge[k]);
      k = next[k];
      minima.push(k);
    }
    return { minima, edges };
  }

  // Probability of each minimum shown, at that place on the grid of temperatures.
  function occupation(place) {
    const t = parts.curves.data.temperatures[place];
    const logZ = parts.curves.data.log_z[place];
    const [constant, gap, power] = [column("constant"), column("gap"), column("power")];
    const logT = Math.log(t);
    const p = new Float64Array(facts.n);
    for (let k = 0; k < facts.n; k += 1) p[k] = Math.exp(constant[k] - gap[k] / t + power[k] * logT - logZ);
    return p;
  }

  // --- colours -------------------------------------------------------------------------------------------------

  function coloured() {
    const values = shade === "occupation" ? occupation(temperature) : column(shade);
    let low = Infinity;
    let high = -Infinity;
    for (const value of values) {
      if (Number.isFinite(value)) {
        low = Math.min(low, value);
        high = Math.max(high, value);
      }
    }
    if (shade === "occupation") low = 0;
    const colour = new Float32Array(values.length);
    const width = high > low ? high - low : 1;
    for (let k = 0; k < values.length; k += 1) {
      colour[k] = Number.isFinite(values[k]) ? (values[k] - low) / width : NaN;
    }
    parts.minima.data.colour = colour;
    parts.minima.change.emit();
    byId("scale-low").textContent = written(low, 4);
    byId("scale-high").textContent = written(high, 4);
  }

  // --- temperature ---------------------------------------------------------------------------------------------

  function heated() {
    const curves = parts.curves.data;
    const t = curves.temperatures[temperature];
    const p = occupation(temperature);
    const text = written(t, 4) + (facts.unit ? ` ${facts.unit}` : "");
    byId("temperature-value").textContent = text;
    for (const place of document.querySelectorAll("output.temperature-value")) place.textContent = text;
    byId("thermal-words").textContent =
      `heat capacity ${written(curves.heat_capacity[temperature], 4)}, mean energy ` +
      `${written(curves.mean_energy[temperature], 6)}, entropy of the occupation ${written(curves.entropy[temperature], 4)}.`;
    parts.temperature_span.location = t;
    const chosen = new Set(parts.minima.selected.indices);
    const order = Array.from(p.keys()).sort((a, b) => p[b] - p[a] || a - b).slice(0, MOST_BARS);
    const ids = column("id");
    parts.occupied.data = {
      id: order.map((k) => ids[k]),
      share: order.map((k) => p[k]),
      fill: order.map((k) => (chosen.has(k) ? "#D55E00" : "#0072B2")),
      k: order,
    };
    parts.occupation_figure.x_range.factors = order.map((k) => ids[k]);
    parts.occupation_figure.y_range.end = 1.08 * Math.max(...order.map((k) => p[k]), 1e-3);
    if (shade === "occupation") coloured();
  }

  // --- choosing ------------------------------------------------------------------------------------------------

  function choose(indices) {
    parts.minima.selected.indices = indices;
  }

  // Called whenever the selection of the minima has changed, whoever did it.
  function chosen() {
    if (parts === null) return;
    const indices = parts.minima.selected.indices;
    if (indices.length) {
      const joins = column("joins")[indices[0]];
      if (Number.isFinite(joins)) threshold = joins;
      else if (threshold === null || !(column("tip")[indices[0]] <= threshold)) threshold = top();
    }
    lit();
    told(indices);
    if (parts.curves) heated();
  }

  // The energy at which everything that is connected has merged.
  function top() {
    let high = column("tip")[facts.n - 1];
    for (const gap of parts.gaps.data.gap) if (Number.isFinite(gap)) high = Math.max(high, gap);
    return high;
  }

  // Superbasins and paths of what is chosen, in every figure.
  function lit() {
    const indices = parts.minima.selected.indices;
    const inside = new Uint8Array(facts.n);
    for (const k of indices) {
      const [from, to] = range(k, threshold);
      for (let place = from; place <= to; place += 1) inside[parts.leaves.data.minimum[place]] = 1;
    }
    const onWay = new Set();
    const edges = new Set();
    for (const k of indices.slice(0, MOST_WAYS)) {
      const found = way(k);
      found.minima.forEach((one) => onWay.add(one));
      found.edges.forEach((one) => edges.add(one));
    }
    litTree(inside);
    litNetwork(inside, indices);
    const ways = Array.from(onWay).filter((k) => !indices.includes(k));
    const size = column("disc");
    for (const [name, [x, y]] of Object.entries(AXES)) {
      if (!parts[`way_${name}`]) continue;
      for (const [kind, which] of [["way", ways], ["chosen", indices]]) {
        parts[`${kind}_${name}`].data = {
          x: which.map((k) => column(x)[k]),
          y: which.map((k) => column(y)[k]),
          size: which.map((k) => size[k] + (kind === "way" ? 5 : 6)),
        };
      }
    }
    const lines = { x: [], y: [] };
    const [a, b] = [parts.edges.data.a, parts.edges.data.b];
    for (const e of edges) {
      lines.x.push(column("x")[a[e]], column("x")[b[e]], NaN);
      lines.y.push(column("y")[a[e]], column("y")[b[e]], NaN);
    }
    parts.way_lines.data = lines;
    const shown = indices.length > 0 && threshold !== null;
    parts.threshold_span.visible = shown;
    if (threshold !== null) parts.threshold_span.location = threshold;
    byId("threshold").disabled = !shown;
    byId("threshold").value = threshold === null ? 0 : 1000 * (threshold - floor()) / (top() - floor() || 1);
    const n = inside.reduce((sum, one) => sum + one, 0);
    byId("threshold-value").textContent = shown ? `${withUnit(threshold)}: ${counted(n, "minimum", "minima")}` : NONE;
  }

  const floor = () => column("tip")[0];

  function litTree(inside) {
    const nodes = parts.nodes.data;
    const lines = { x: [], y: [] };
    for (let i = 0; i < nodes.lowest.length; i += 1) {
      if (inside[nodes.lowest[i]] && nodes.top[i] <= threshold) {
        lines.x.push(nodes.x0[i], nodes.x1[i], nodes.x1[i], NaN);
        lines.y.push(nodes.y0[i], nodes.y0[i], nodes.top[i], NaN);
      }
    }
    parts.lit_tree.data = lines;
  }

  function litNetwork(inside, indices) {
    const made = { x: [], y: [], size: [] };
    const skip = new Set(indices);
    for (let k = 0; k < facts.n; k += 1) {
      if (inside[k] && !skip.has(k)) {
        made.x.push(column("x")[k]);
        made.y.push(column("y")[k]);
        made.size.push(column("disc")[k] + 2);
      }
    }
    parts.lit_network.data = made;
  }

  // --- the panel beside: one minimum in numbers ----------------------------------------------------------------

  function told(indices) {
    const some = indices.length > 0;
    byId("nothing").hidden = some;
    for (const name of ["something", "profile-place"]) byId(name).hidden = !some;
    byId("neighbours-place").hidden = !some || !degrees[indices[0]] || degrees[indices[0]].length === 0;
    byId("confusion-place").hidden = !some || facts.classes === null;
    if (parts.own_barriers && !some) parts.own_barriers.data = { x: [], y: [] };
    if (!some) return;
    const k = indices[0];
    byId("chosen-name").textContent = `id ${column("id")[k]}`;
    const rank = column("rank")[k];
    byId("chosen-also").textContent =
      (rank === 0 ? "the global minimum" : `number ${rank} by energy`) +
      (indices.length > 1 ? `; ${indices.length - 1} more are chosen` : "");
    const table = byId("properties");
    table.replaceChildren();
    for (const one of facts.quantities) {
      const line = row([one.label, written(column(one.name)[k])]);
      line.title = one.hint;
      table.appendChild(line);
    }
    if (parts.curves) table.appendChild(row(["occupation now", written(occupation(temperature)[k], 4)]));
    toldWay(k);
    toldNeighbours(k);
    if (facts.classes !== null) toldConfusion(k);
  }

  function toldWay(k) {
    const found = way(k);
    const end = found.minima[found.minima.length - 1];
    byId("path-end").textContent = end === 0 ? "global minimum" : "lowest minimum it is connected to";
    const energies = parts.edges.data.energy;
    const highest = Math.max(...found.edges.map((e) => energies[e]));
    const words = [];
    if (end !== 0) words.push("No known path leads to the global minimum.");
    if (found.edges.length) {
      const start = column("tip")[k];
      words.push(
        `${counted(found.edges.length, "transition state", "transition states")}, the highest at ` +
          `${withUnit(highest)}: ${withUnit(highest - start)} above this minimum.`,
      );
    } else if (end === 0) words.push("This is the global minimum.");
    else words.push("It is the lowest of its component.");
    byId("path-words").textContent = words.join(" ");
    byId("profile-place").hidden = found.edges.length === 0;
    profile(found);
  }

  // Minima and transition states in a row, with half a wave between neighbours.
  function profile(found) {
    const points = { x: [], y: [], id: [], fill: [], size: [], kind: [] };
    const add = (x, y, id, fill, size, kind) => {
      const values = { x, y, id, fill, size, kind };
      for (const name of Object.keys(points)) points[name].push(values[name]);
    };
    found.minima.forEach((m, i) => {
      add(2 * i, column("tip")[m], column("id")[m], i === 0 ? "#D55E00" : "#ffffff", 8, "minimum");
      if (i < found.edges.length) {
        const e = found.edges[i];
        add(2 * i + 1, parts.edges.data.energy[e], parts.edges.data.ts[e], "#1f2430", 5, "transition state");
      }
    });
    const line = { x: [], y: [] };
    const steps = points.x.length > 200 ? 1 : 12;
    for (let i = 0; i + 1 < points.x.length; i += 1) {
      for (let s = 0; s < steps; s += 1) {
        const part = (1 - Math.cos((Math.PI * s) / steps)) / 2;
        line.x.push(points.x[i] + s / steps);
        line.y.push(points.y[i] + part * (points.y[i + 1] - points.y[i]));
      }
    }
    if (points.x.length) {
      line.x.push(points.x[points.x.length - 1]);
      line.y.push(points.y[points.y.length - 1]);
    }
    const span = (values) => [Math.min(...values), Math.max(...values)];
    const [low, high] = span(points.y);
    const margin = 0.08 * (high - low || 1);
    const { x_range: across, y_range: up } = parts.profile_figure;
    across.setv({ start: -0.4, end: points.x[points.x.length - 1] + 0.4 });
    up.setv({ start: low - margin, end: high + margin });
    parts.profile_line.data = line;
    parts.profile_points.data = points;
  }

  function toldNeighbours(k) {
    const table = byId("neighbours");
    table.replaceChildren();
    const head = document.createElement("thead");
    head.appendChild(row(["to", "energy", "up", "back"], true));
    const body = document.createElement("tbody");
    const { a, b, energy } = parts.edges.data;
    const found = Array.from(degrees[k] || []).sort((i, j) => energy[i] - energy[j]);
    for (const e of found.slice(0, 12)) {
      const other = a[e] === k ? b[e] : a[e];
      const [up, back] = [energy[e] - column("tip")[k], energy[e] - column("tip")[other]];
      const line = row([column("id")[other], written(energy[e], 6), written(up, 4), written(back, 4)]);
      line.addEventListener("click", () => choose([other]));
      body.appendChild(line);
    }
    table.append(head, body);
    if (found.length > 12) body.appendChild(row([`${found.length - 12} more`, "", "", ""]));
    if (parts.own_barriers) {
      const up = found.map((e) => energy[e] - column("tip")[k]);
      parts.own_barriers.data = { x: up, y: up.map(() => 0) };
    }
  }

  function toldConfusion(k) {
    const c = facts.classes;
    const known = k < facts.classified;
    byId("confusion-words").textContent = known
      ? `${facts.of}, ${facts.items} items.`
      : `Counted for the ${facts.classified} lowest minima only.`;
    byId("confusion-place").querySelector(".figure").hidden = !known;
    if (!known) return;
    const n = parts.confusions.data.n.slice(k * c * c, (k + 1) * c * c);
    const share = new Float32Array(c * c);
    for (let i = 0; i < c; i += 1) {
      let sum = 0;
      for (let j = 0; j < c; j += 1) sum += n[i * c + j];
      for (let j = 0; j < c; j += 1) share[i * c + j] = sum ? n[i * c + j] / sum : 0;
    }
    const old = parts.confused.data;
    parts.confused.data = {
      ...old,
      n: Array.from(n),
      share: Array.from(share),
      ink: Array.from(share, (part) => (part > 0.55 ? "#ffffff" : "#1f2430")),
      text: Array.from(n, (one) => (one ? String(one) : "")),
    };
  }

  // --- clicks and controls -------------------------------------------------------------------------------------

  // A click in a figure chooses the minimum nearest to it, within reach of a fingertip; elsewhere it lets go.
  function tapped(figure, event) {
    const [x, y] = AXES[figure.name].map(column);
    const scale = (size, range) => size / Math.abs(range.end - range.start);
    const sx = scale(figure.inner_width, figure.x_range);
    const sy = scale(figure.inner_height, figure.y_range);
    let [best, nearest] = [-1, 15 * 15];
    for (let k = 0; k < x.length; k += 1) {
      const d = ((x[k] - event.x) * sx) ** 2 + ((y[k] - event.y) * sy) ** 2;
      if (d < nearest) [best, nearest] = [k, d];
    }
    choose(best < 0 ? [] : [best]);
  }

  function barChosen() {
    const [bar] = parts.occupied.selected.indices;
    if (bar === undefined) return;
    const k = parts.occupied.data.k[bar];
    parts.occupied.selected.indices = [];
    choose([k]);
  }

  function searched(field) {
    const wanted = field.value.trim();
    const k = wanted === "" ? -1 : column("id").indexOf(wanted);
    field.classList.toggle("unknown", wanted !== "" && k < 0);
    if (k >= 0) choose([k]);
  }

  function start(given) {
    parts = given;
    degrees = Array.from({ length: facts.n }, () => []);
    const { a, b } = parts.edges.data;
    for (let e = 0; e < a.length; e += 1) {
      degrees[a[e]].push(e);
      degrees[b[e]].push(e);
    }
    const select = byId("colour");
    for (const one of facts.quantities) select.add(new Option(one.label, one.name));
    if (parts.curves) select.add(new Option("occupation at this temperature", "occupation"));
    shade = select.value = "energy";
    select.addEventListener("change", () => {
      shade = select.value;
      coloured();
    });
    byId("threshold").addEventListener("input", (event) => {
      threshold = floor() + (Number(event.target.value) / 1000) * (top() - floor());
      lit();
    });
    if (parts.curves) {
      byId("temperature").addEventListener("input", (event) => {
        temperature = Number(event.target.value);
        heated();
        if (parts.minima.selected.indices.length) told(parts.minima.selected.indices);
      });
    }
    byId("search").addEventListener("input", (event) => searched(event.target));
    byId("lowest").addEventListener("click", () => choose([0]));
    byId("clear").addEventListener("click", () => choose([]));
    coloured();
    if (parts.curves) heated();
    lit();
    told([]);
    document.documentElement.dataset.ready = "yes";
  }

  return {
    start, chosen, choose, tapped, barChosen, superbasin, way, occupation,
    parts: () => parts,
    setThreshold: (energy) => { threshold = energy; lit(); },
  };
})();
