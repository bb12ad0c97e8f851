// Draws the panels of the page's data with Chart.js and keeps its switches: what to show, never what to compute.
// Switches live in the URL's fragment, so they survive the reloads of a page that is being rewritten.
"use strict";
(() => {
  const page = JSON.parse(document.getElementById("data").textContent);
  const root = document.documentElement;
  const kept = new URLSearchParams(location.hash.slice(1));
  const charts = new Map();
  const tip = document.getElementById("tip");

  const keep = (name, value) => {
    if (value) kept.set(name, value);
    else kept.delete(name);
    history.replaceState(null, "", "#" + kept);
  };

  const element = (tag, properties = {}, ...children) => {
    const made = Object.assign(document.createElement(tag), properties);
    made.append(...children);
    return made;
  };

  // --- colours -------------------------------------------------------------------------------------------------------
  const system = matchMedia("(prefers-color-scheme: dark)");
  const dark = () => (root.dataset.theme ? root.dataset.theme === "dark" : system.matches);
  const probe = document.body.appendChild(element("i", { hidden: true }));

  const named = (name) => {
    probe.style.color = `var(--${name})`;
    return getComputedStyle(probe).color;
  };

  const palette = () => {
    const ramp = page.ramp[dark() ? "dark" : "light"];
    const known = Object.fromEntries(["ink", "soft", "faint", "line", "accent", "warning", "card"].map((name) => [name, named(name)]));
    return { ...known, of: (color) => (typeof color === "number" ? ramp[color] : known[color]) };
  };

  const washed = (color) => color.replace(/^rgba?\(([^)]+)\)$/, (_, parts) => `rgba(${parts.split(/[\s,/]+/).slice(0, 3).join(", ")}, 0.18)`);

  // --- from a panel to a chart ---------------------------------------------------------------------------------------
  const MARKERS = { circle: "circle", diamond: "rectRot", cross: "crossRot", star: "triangle" };

  const shown = (panel, chosen) =>
    panel.layers.filter((layer) => Object.entries(layer.when).every(([name, value]) => chosen[name] === value));

  const pointsOf = (layer, colors) => {
    const color = colors.of(layer.color);
    const filled = (place) => (Array.isArray(layer.filled) ? layer.filled[place] : layer.filled);
    return {
      data: layer.points.map(([x, y], place) => ({ x, y, tip: layer.tips?.[place], ends: layer.ends?.[place] })),
      pointStyle: MARKERS[layer.marker],
      pointRadius: layer.size,
      pointHoverRadius: layer.size + 2,
      pointHitRadius: 7,
      pointBackgroundColor: layer.points.map((_, place) => (filled(place) ? color : colors.card)),
      pointBorderColor: color,
      pointBorderWidth: layer.marker === "circle" ? 1.2 : 2.2,
      pointHoverBorderWidth: 2.6,
      color,
      across: layer.across,
      endLabel: layer.label,
    };
  };

  const lineOf = (layer, colors) => ({
    data: layer.points.map(([x, y]) => ({ x, y })),
    showLine: true,
    pointRadius: 0,
    pointHitRadius: 0,
    pointHoverRadius: 0,
    borderColor: colors.of(layer.color),
    borderWidth: layer.width,
    borderDash: layer.dash ? [5, 4] : [],
    color: colors.of(layer.color),
    endLabel: layer.label,
  });

  const bandOf = (layer, colors) => {
    const edge = { showLine: true, pointRadius: 0, pointHitRadius: 0, pointHoverRadius: 0, borderWidth: 0 };
    return [
      { ...edge, data: layer.points.map(([x, low]) => ({ x, y: low })) },
      { ...edge, data: layer.points.map(([x, , high]) => ({ x, y: high })), fill: "-1", backgroundColor: washed(colors.of(layer.color)) },
    ];
  };

  const datasetsOf = (layers, colors) => {
    const makers = { points: pointsOf, line: lineOf, band: bandOf };
    const made = layers.flatMap((layer) => makers[layer.kind](layer, colors));
    return made.map((dataset, place) => ({ ...dataset, order: made.length - place }));
  };

  const axisOf = (axis, colors, upright) => ({
    type: axis.log ? "logarithmic" : "linear",
    min: axis.min,
    max: axis.max,
    suggestedMin: axis.low,
    suggestedMax: axis.high,
    reverse: axis.reverse ?? false,
    grace: axis.log ? undefined : "4%",
    title: { display: Boolean(axis.title), text: axis.title, color: colors.soft },
    grid: { color: colors.line, drawTicks: false },
    border: { color: colors.faint },
    afterBuildTicks: (scale) => {
      if (axis.ticks) scale.ticks = axis.ticks.map((tick) => ({ ...tick }));
    },
    ticks: {
      color: colors.soft,
      padding: 6,
      maxRotation: 0,
      autoSkip: !(axis.ticks && upright),
      callback(value, place, ticks) {
        return ticks[place].label ?? this.getLabelForValue(value) + (axis.unit ?? "");
      },
    },
  });

  const errorBars = {
    id: "errorBars",
    beforeDatasetDraw(chart, { meta }) {
      const { ctx, chartArea: area, scales } = chart;
      const dataset = chart.data.datasets[meta.index];
      if (!dataset.data.some((point) => point.ends)) return;
      ctx.save();
      ctx.beginPath();
      ctx.rect(area.left, area.top, area.width, area.height);
      ctx.clip();
      ctx.strokeStyle = dataset.color;
      ctx.lineWidth = 1.8;
      ctx.globalAlpha = 0.75;
      meta.data.forEach((mark, place) => {
        const [low, high] = dataset.data[place].ends ?? [];
        if (low == null && high == null) return;
        const scale = dataset.across ? scales.x : scales.y;
        const { x, y } = mark.getProps(["x", "y"], true);
        const from = low == null ? (dataset.across ? area.left : area.bottom) : scale.getPixelForValue(low);
        const to = high == null ? (dataset.across ? area.right : area.top) : scale.getPixelForValue(high);
        ctx.beginPath();
        if (dataset.across) {
          ctx.moveTo(from, y); ctx.lineTo(to, y);
          for (const end of [from, to]) { ctx.moveTo(end, y - 4); ctx.lineTo(end, y + 4); }
        } else {
          ctx.moveTo(x, from); ctx.lineTo(x, to);
          for (const end of [from, to]) { ctx.moveTo(x - 4, end); ctx.lineTo(x + 4, end); }
        }
        ctx.stroke();
      });
      ctx.restore();
    },
  };

  const endLabels = {
    id: "endLabels",
    afterDatasetsDraw(chart) {
      const { ctx } = chart;
      ctx.save();
      ctx.font = `600 12px ${getComputedStyle(document.body).fontFamily}`;
      ctx.textBaseline = "middle";
      const taken = [];
      chart.data.datasets.forEach((dataset, index) => {
        const marks = chart.getDatasetMeta(index).data;
        if (!dataset.endLabel || !marks.length) return;
        const last = marks.reduce((right, mark) => (mark.x > right.x ? mark : right));
        // Two profiles that end at one height would hide each other's name.
        let y = last.y;
        while (taken.some((each) => Math.abs(each.y - y) < 13 && Math.abs(each.x - last.x) < 70)) y -= 13;
        taken.push({ x: last.x, y });
        ctx.fillStyle = dataset.color;
        ctx.fillText(dataset.endLabel, last.x + 9, y);
      });
      ctx.restore();
    },
  };

  const linesOf = (panel, raw) => (typeof raw.tip === "number" ? panel.tips[raw.tip] : raw.tip);

  const tell = (panel) => ({ chart, tooltip }) => {
    const point = tooltip.opacity ? tooltip.dataPoints?.find(({ raw }) => raw.tip !== undefined) : undefined;
    tip.hidden = !point;
    if (!point) return;
    tip.replaceChildren(...linesOf(panel, point.raw).map((line) => element("div", { textContent: line })));
    const box = chart.canvas.getBoundingClientRect();
    const x = box.left + tooltip.caretX + 14 + tip.offsetWidth > innerWidth ? tooltip.caretX - tip.offsetWidth - 14 : tooltip.caretX + 14;
    tip.style.left = `${Math.max(box.left + x, 6) + scrollX}px`;
    tip.style.top = `${box.top + tooltip.caretY + scrollY + 14}px`;
  };

  const configOf = (panel, chosen, canvas) => {
    const colors = palette();
    const labelled = panel.layers.some((layer) => layer.label);
    const narrow = canvas.parentElement.clientWidth < 520;
    return {
      type: "scatter",
      data: { datasets: datasetsOf(shown(panel, chosen), colors) },
      options: {
        animation: false,
        responsive: true,
        maintainAspectRatio: false,
        layout: { padding: { right: labelled ? (narrow ? 48 : 80) : 10, top: 8 } },
        interaction: { mode: "nearest", intersect: true },
        scales: {
          x: axisOf(panel.x.title === undefined ? panel.x[chosen.x] : panel.x, colors, false),
          y: axisOf(panel.y, colors, true),
        },
        plugins: { legend: { display: false }, tooltip: { enabled: false, external: tell(panel) } },
      },
      plugins: [errorBars, endLabels],
    };
  };

  // --- switches, keys ------------------------------------------------------------------------------------------------
  const chosenOf = (panel) =>
    Object.fromEntries(
      (panel.switches ?? []).map(({ name, choices, chosen }) => {
        const asked = kept.get(name);
        return [name, choices.some(([value]) => value === asked) ? asked : chosen ?? choices[0]?.[0]];
      }),
    );

  // What is asked for may not be there for every loss: the first that is, is shown then.
  const possible = (panel, chosen) => {
    const there = (name, value) => panel.layers.some((layer) => layer.when.loss === chosen.loss && layer.when[name] === value);
    if (chosen.method && !there("method", chosen.method)) {
      chosen.method = panel.switches.find(({ name }) => name === "method").choices.map(([value]) => value).find((value) => there("method", value));
    }
    return { chosen, there };
  };

  const draw = (panel) => {
    const canvas = document.querySelector(`[data-panel="${CSS.escape(panel.name)}"] canvas`);
    const { chosen, there } = possible(panel, chosenOf(panel));
    charts.get(panel.name)?.destroy();
    charts.set(panel.name, new Chart(canvas, configOf(panel, chosen, canvas)));
    for (const input of canvas.closest("figure").querySelectorAll("input[type=radio]")) {
      input.checked = chosen[input.name] === input.value;
      input.disabled = input.name === "method" && !there("method", input.value);
    }
    tip.hidden = true;
  };

  const addSwitches = (panel) => {
    const place = document.querySelector(`[data-panel="${CSS.escape(panel.name)}"] .switches`);
    for (const { name, label, choices } of panel.switches ?? []) {
      if (choices.length < 2) continue;
      const options = choices.map(([value, text]) => {
        const input = element("input", { type: "radio", name, value });
        input.addEventListener("change", () => { keep(name, value); draw(panel); });
        return element("label", {}, input, text);
      });
      place.append(element("fieldset", {}, element("legend", { textContent: label }), element("span", { className: "choices" }, ...options)));
    }
  };

  const addKeys = (panel) => {
    const canvas = document.querySelector(`[data-panel="${CSS.escape(panel.name)}"] canvas`);
    let at = -1;
    const show = (chart, found) => {
      chart.setActiveElements(found ? [found] : []);
      chart.tooltip.setActiveElements(found ? [found] : [], { x: 0, y: 0 });
      chart.update();
    };
    canvas.addEventListener("keydown", (event) => {
      const step = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[event.key];
      if (!step && event.key !== "Escape") return;
      event.preventDefault();
      const chart = charts.get(panel.name);
      const told = chart.data.datasets.flatMap(({ data }, datasetIndex) =>
        data.flatMap((point, index) => (point.tip === undefined ? [] : [{ datasetIndex, index }])));
      at = step ? (at + step + told.length) % told.length : -1;
      show(chart, told[at]);
    });
    canvas.addEventListener("blur", () => { at = -1; show(charts.get(panel.name), undefined); });
  };

  // --- the table of runs ---------------------------------------------------------------------------------------------
  const table = document.getElementById("runs");
  const tend = (rows) => {
    const [search, state, count] = ["search", "state", "count"].map((name) => document.getElementById(`runs-${name}`));
    const filter = () => {
      const wanted = search.value.trim().toLowerCase();
      let left = 0;
      for (const row of rows) {
        row.hidden = !((!state.value || row.dataset.state === state.value) && row.textContent.toLowerCase().includes(wanted));
        left += row.hidden ? 0 : 1;
      }
      count.textContent = left === rows.length ? "" : `${left} of ${rows.length} shown`;
      keep("find", search.value);
      keep("state", state.value);
    };
    const sort = (head, downwards) => {
      for (const each of table.tHead.rows[0].cells) each.removeAttribute("aria-sort");
      head.setAttribute("aria-sort", downwards ? "descending" : "ascending");
      const value = (row) => row.cells[head.cellIndex].dataset.value ?? row.cells[head.cellIndex].textContent;
      const compare = (one, other) => {
        const [a, b] = [value(one), value(other)];
        if (!a || !b) return (a ? 0 : 1) - (b ? 0 : 1);
        const order = head.classList.contains("num") ? a - b : a.localeCompare(b);
        return downwards ? -order : order;
      };
      table.tBodies[0].append(...[...rows].sort(compare));
      keep("sort", `${head.cellIndex}${downwards ? "-" : ""}`);
    };
    search.value = kept.get("find") ?? "";
    state.value = kept.get("state") ?? "";
    search.addEventListener("input", filter);
    state.addEventListener("change", filter);
    if (search.value || state.value) filter();
    for (const head of table.tHead.rows[0].cells) {
      const button = element("button", { type: "button", textContent: head.textContent });
      button.addEventListener("click", () => sort(head, head.getAttribute("aria-sort") === "ascending"));
      head.replaceChildren(button);
    }
    const asked = /^(\d+)(-?)$/.exec(kept.get("sort") ?? "");
    if (asked && table.tHead.rows[0].cells[asked[1]]) sort(table.tHead.rows[0].cells[asked[1]], Boolean(asked[2]));
  };

  // --- the page ------------------------------------------------------------------------------------------------------
  const redraw = () => page.panels.forEach(draw);

  const THEMES = { "": "Theme: system", light: "Theme: light", dark: "Theme: dark" };
  const themeButton = element("button", { type: "button", id: "theme" });
  const setTheme = (theme) => {
    if (theme) root.dataset.theme = theme;
    else delete root.dataset.theme;
    themeButton.textContent = THEMES[theme];
  };
  themeButton.addEventListener("click", () => {
    const names = Object.keys(THEMES);
    const next = names[(names.indexOf(root.dataset.theme ?? "") + 1) % names.length];
    keep("theme", next);
    setTheme(next);
    redraw();
  });

  const addRefresh = () => {
    const button = element("button", { type: "button", id: "pause" });
    const said = document.getElementById("freshness");
    let timer;
    const go = () => {
      const paused = kept.has("paused");
      button.textContent = paused ? "Go on refreshing" : "Pause refreshing";
      button.setAttribute("aria-pressed", String(paused));
      clearTimeout(timer);
      if (!paused) timer = setTimeout(() => location.reload(), 1000 * page.refresh);
      const age = Date.now() / 1000 - page.written;
      if (age > page.stale) said.textContent = "Nobody rewrites this page any more: run isoflop report --watch again to go on.";
    };
    button.addEventListener("click", () => { keep("paused", kept.has("paused") ? "" : "1"); go(); });
    document.querySelector(".tools").prepend(button);
    go();
  };

  root.classList.add("js");
  document.querySelector(".tools").append(themeButton);
  setTheme(kept.get("theme") in THEMES ? kept.get("theme") : "");
  Chart.defaults.font.family = getComputedStyle(document.body).fontFamily;
  page.panels.forEach((panel) => { addSwitches(panel); addKeys(panel); });
  redraw();
  if (table) tend([...table.tBodies[0].rows]);
  if (page.refresh) addRefresh();
  system.addEventListener("change", redraw);
  // Paper is white, whatever the screen is.
  let before;
  addEventListener("beforeprint", () => { before = root.dataset.theme ?? ""; setTheme("light"); redraw(); });
  addEventListener("afterprint", () => { setTheme(before); redraw(); });
  root.dataset.ready = String(Math.round(performance.now()));
})();
