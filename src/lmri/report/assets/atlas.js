"use strict";
// The atlas. Every string of a study is set as text; the plotting library gets numbers only, since
// it reads markup in labels.
(() => {
  const PAGE = 100;
  const node = name => document.getElementById("atlas-" + name);
  const { maps } = JSON.parse(node("data").textContent);
  const state = { map: null, column: null, sort: null, down: true, chosen: -1, shown: PAGE };

  const unique = values => [...new Set(values)];
  const strength = (column, unit) => {
    const value = column.values[unit];
    if (value === null) return -Infinity;
    return column.small ? -value : Math.abs(value);
  };
  const largest = column =>
    column.values.reduce((most, value) => Math.max(most, Math.abs(value ?? 0)), 0);
  const nameOf = unit => state.map.units.map(axis => axis[unit]).join(":");
  const written = value =>
    value === null ? "–" : Math.abs(value) >= 1e-3 || value === 0 ? String(value) : value.toExponential(2);

  function fill(select, labels, keep) {
    select.replaceChildren(...labels.map((label, number) => new Option(label, String(number))));
    select.value = String(Math.max(0, labels.indexOf(keep)));
  }

  const label = select => select.selectedOptions[0]?.textContent;

  function offer() {
    const subject = node("subject"), contrast = node("contrast"), map = node("map");
    const before = [label(subject), label(contrast), label(map)];
    fill(subject, unique(maps.map(own => own.subject)), before[0]);
    const here = maps.filter(own => own.subject === label(subject));
    fill(contrast, unique(here.map(own => own.contrast)), before[1]);
    const there = here.filter(own => own.contrast === label(contrast));
    fill(map, unique(there.map(own => own.map)), before[2]);
    state.map = there.find(own => own.map === label(map));
    state.chosen = -1;
    const columns = state.map.columns;
    fill(node("column"), columns.map(own => own.label), label(node("column")));
    useColumn();
  }

  function useColumn() {
    state.column = state.map.columns[Number(node("column").value)];
    state.sort = state.column;
    state.down = true;
    // A threshold is not carried over to numbers of another size.
    node("threshold").value = state.column.small ? "100" : "0";
    state.shown = PAGE;
    draw();
  }

  function limit() {
    return Number(node("threshold").value) / 100 * largest(state.column);
  }

  function passes(unit, border) {
    const value = state.column.values[unit];
    if (value === null) return false;
    return state.column.small ? value <= border : Math.abs(value) >= border;
  }

  function visible() {
    const border = limit(), query = node("search").value.trim();
    const found = node("found").checked ? new Set(state.map.found) : null;
    const units = [];
    for (let unit = 0; unit < state.map.units[0].length; unit++)
      if (passes(unit, border) && (!found || found.has(unit)) && nameOf(unit).startsWith(query))
        units.push(unit);
    return units;
  }

  function draw() {
    const units = visible();
    node("limit").textContent = (state.column.small ? "≤ " : "≥ ") + Number(limit().toPrecision(3));
    node("path").textContent = state.map.path;
    const of = state.map.units[0].length < state.map.total
      ? `${state.map.units[0].length} strongest of ${state.map.total}` : state.map.total;
    node("status").textContent = `${units.length} of ${of} units shown` +
      (state.chosen < 0 ? "." : `; chosen: ${nameOf(state.chosen)}.`);
    plot(units);
    table(units);
  }

  // Where a unit stands in its layer: its last numbers as one.
  function across() {
    const [, ...inner] = state.map.units;
    if (!inner.length) return state.map.units[0].map(() => 0);
    const width = inner.length > 1 ? Math.max(...inner[1]) + 1 : 1;
    return inner[0].map((first, unit) => inner.length > 1 ? first * width + inner[1][unit] : first);
  }

  function plot(units) {
    const style = getComputedStyle(document.documentElement);
    const ink = style.getPropertyValue("--ink").trim(), rule = style.getPropertyValue("--rule").trim();
    const strong = style.getPropertyValue("--ink").trim();
    const x = across(), y = state.map.units[0], column = state.column, most = largest(column) || 1;
    const shown = new Set(units);
    const colour = column.small
      ? { colorscale: "Cividis", reversescale: true, zmin: 0, zmax: most }
      : { colorscale: [[0, "#2166ac"], [0.5, "#f2efe9"], [1, "#b2182b"]], zmin: -most, zmax: most };
    const hover = unit => [nameOf(unit), written(column.values[unit])];
    const layers = unique(y).sort((a, b) => a - b);
    const whole = state.map.units[0].length === state.map.total;
    const traces = [];
    if (whole) {
      const places = unique(x).sort((a, b) => a - b);
      const at = new Map(places.map((place, number) => [place, number]));
      const row = new Map(layers.map((layer, number) => [layer, number]));
      const z = layers.map(() => places.map(() => null)), text = layers.map(() => places.map(() => null));
      units.forEach(unit => {
        z[row.get(y[unit])][at.get(x[unit])] = column.values[unit];
        text[row.get(y[unit])][at.get(x[unit])] = hover(unit);
      });
      traces.push({
        type: "heatmap", x: places, y: layers, z, customdata: text, hoverongaps: false, ...colour,
        hovertemplate: "%{customdata[0]}: %{customdata[1]}<extra></extra>", colorbar: { thickness: 12 },
      });
    } else {
      traces.push({
        type: "scatter", mode: "markers", x: units.map(unit => x[unit]), y: units.map(unit => y[unit]),
        customdata: units.map(hover), hovertemplate: "%{customdata[0]}: %{customdata[1]}<extra></extra>",
        marker: {
          size: 9, color: units.map(unit => column.values[unit]), colorscale: colour.colorscale,
          reversescale: colour.reversescale ?? false, cmin: colour.zmin, cmax: colour.zmax,
          colorbar: { thickness: 12 }, line: { width: 0.5, color: ink },
        },
      });
    }
    const frame = (members, symbol, size, shade, width) => ({
      type: "scatter", mode: "markers", hoverinfo: "skip", showlegend: false,
      x: members.map(unit => x[unit]), y: members.map(unit => y[unit]),
      marker: { symbol, size, color: shade, line: { width, color: shade } },
    });
    traces.push(frame(state.map.found.filter(unit => shown.has(unit)), "square-open", 18, strong, 3));
    traces.push(frame(state.chosen < 0 ? [] : [state.chosen], "circle-open", 20, ink, 3));
    const axis = { color: ink, gridcolor: rule, zeroline: false, fixedrange: false };
    Plotly.react(node("plot"), traces, {
      height: Math.min(620, Math.max(240, 26 * layers.length + 130)),
      margin: { l: 52, r: 10, t: 10, b: 44 }, paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)",
      font: { color: ink, family: style.getPropertyValue("--sans") || "sans-serif", size: 12 },
      showlegend: false, dragmode: "zoom",
      xaxis: { ...axis, title: { text: state.map.dims.slice(1).join(", ") }, showgrid: false },
      yaxis: { ...axis, title: { text: "layer" }, tickmode: layers.length > 24 ? "auto" : "array", tickvals: layers, showgrid: false },
    }, { displayModeBar: false, responsive: true });
  }

  function heading(text, column, number) {
    const cell = document.createElement("th"), button = document.createElement("button");
    cell.scope = "col";
    if (number) cell.className = "number";
    button.type = "button";
    button.textContent = text;
    const active = state.sort === column;
    cell.setAttribute("aria-sort", active ? (state.down ? "descending" : "ascending") : "none");
    button.addEventListener("click", () => {
      state.down = active ? !state.down : true;
      state.sort = column;
      draw();
      [...node("head").querySelectorAll("button")].find(own => own.textContent === text)?.focus();
    });
    cell.append(button);
    return cell;
  }

  function order(units) {
    const sign = state.down ? -1 : 1;
    if (state.sort === null) return state.down ? [...units] : [...units].reverse();
    return [...units].sort((a, b) => {
      const one = strength(state.sort, a), other = strength(state.sort, b);
      return one === other ? a - b : sign * (one < other ? -1 : 1);
    });
  }

  function table(units) {
    const columns = state.map.columns, found = new Set(state.map.found);
    node("table-caption").textContent =
      "The units shown, the strongest first in the column that is sorted by; numbers have four digits.";
    node("head").replaceChildren(
      heading(state.map.dims.join(":"), null, false),
      ...columns.map(column => heading(column.label, column, true)),
    );
    const rows = order(units).slice(0, state.shown).map(unit => {
      const row = document.createElement("tr"), name = document.createElement("th");
      const button = document.createElement("button");
      name.scope = "row";
      button.type = "button";
      button.textContent = nameOf(unit);
      button.setAttribute("aria-pressed", String(unit === state.chosen));
      button.addEventListener("click", () => choose(unit));
      name.append(button);
      if (found.has(unit)) {
        const mark = document.createElement("small");
        mark.textContent = "of the finding";
        name.append(mark);
      }
      const examples = state.map.examples[unit];
      if (examples) {
        const link = document.createElement("a");
        link.href = "examples.html#" + examples;
        link.textContent = "examples";
        link.setAttribute("aria-label", "examples of " + nameOf(unit));
        name.append(" ", link);
      }
      row.dataset.unit = String(unit);
      if (unit === state.chosen) row.className = "chosen";
      row.append(name, ...columns.map(column => {
        const cell = document.createElement("td");
        cell.className = "number";
        cell.textContent = written(column.values[unit]);
        return cell;
      }));
      return row;
    });
    node("rows").replaceChildren(...rows);
    node("more").hidden = units.length <= state.shown;
  }

  function choose(unit) {
    state.chosen = unit === state.chosen ? -1 : unit;
    const place = order(visible()).indexOf(unit);
    if (place >= state.shown) state.shown = place + 1;
    draw();
    node("rows").querySelector(`[data-unit="${unit}"] button`)?.focus();
  }

  for (const name of ["subject", "contrast", "map"]) node(name).addEventListener("change", offer);
  node("column").addEventListener("change", useColumn);
  for (const name of ["threshold", "search", "found"]) node(name).addEventListener("input", draw);
  node("more").addEventListener("click", () => { state.shown += PAGE; draw(); });
  document.querySelector(".atlas-choice").addEventListener("submit", event => event.preventDefault());
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", draw);
  offer();
  node("plot").on("plotly_click", ({ points: [point] }) => {
    const unit = state.map.units[0].findIndex((_, own) => nameOf(own) === point.customdata?.[0]);
    if (unit >= 0) choose(unit);
  });
})();
