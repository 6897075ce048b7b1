// Makes the page's tables sortable and searchable and two of its plots explorable. Without it the
// page says the same. Whatever comes from the run becomes text nodes, never markup.
(() => {
"use strict";
const ROWS_MIN = 9, ROWS_TALL = 40, HEIGHT = 560;
const data = JSON.parse(document.getElementById("data").textContent);
const grids = new Map(); // mount -> {ids, build(), reveal(id)}

function make(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  element.append(...children);
  return element;
}

// ---- Tables -------------------------------------------------------------------------------

const parsed = (text) => text === "Infinity" ? Infinity : text === "-Infinity" ? -Infinity
  : text === undefined || text === "" ? null : Number(text);

// A table of the page as columns and rows; cells are drawn as copies of what stands there.
function fromTable(table) {
  const columns = [...table.tHead.rows[0].cells].map((cell) => ({
    title: cell.textContent, numeric: cell.classList.contains("n"), choice: "choice" in cell.dataset,
    code: false,
  }));
  const rows = [...table.tBodies[0].rows].map((row, number) => ({
    id: row.id || `${table.id}:${number}`, mark: row.className,
    cells: [...row.cells].map((cell, at) => {
      if (cell.classList.contains("name")) columns[at].code = true;
      const main = [...cell.childNodes].filter((n) => n.nodeName !== "SMALL");
      return {
        text: main.map((n) => n.textContent).join(""), all: cell.textContent, value: parsed(cell.dataset.v),
        draw: () => [...cell.childNodes].map((n) => n.cloneNode(true)),
      };
    }),
  }));
  return {columns, rows, label: table.caption.textContent};
}

const shownNumber = (value) => value === null ? "—" : typeof value === "number"
  ? String(value).replace("-", "−") : value;

// The id of a part of the page, as calib.report.words.anchor makes it.
const anchor = (kind, name) => `${kind}:${encodeURIComponent(name).replace(/[!'()*]/g, (c) => `%${c.charCodeAt(0).toString(16).toUpperCase()}`)}`;

// The same from data: rows of cells, the first of which is the sample's name; a cell is a number, a text, or {t: text, n: notes, g: tag}.
// The last column is shown below the others, across the row.
function fromData(found, label) {
  const rows = found.rows.map((cells) => ({
    id: anchor("sample", cells[0]), mark: "",
    cells: cells.map((cell) => {
      const isPlain = cell === null || typeof cell !== "object";
      const text = isPlain ? shownNumber(cell) : cell.t, notes = isPlain ? [] : cell.n || [];
      return {
        text, all: [text, ...notes].join(" "), value: typeof cell === "number" ? cell : null,
        draw: () => [
          cell && cell.g ? make("span", {class: `tag ${cell.g}`}, text) : document.createTextNode(text),
          ...notes.map((note) => make("small", {}, note)),
        ],
      };
    }),
  }));
  for (const row of rows) {
    const picture = found.pictures[row.cells[0].text], last = row.cells.at(-1);
    if (last.all || picture) row.below = () => make("div", {class: "below", role: "gridcell"},
      ...(picture ? [make("img", {class: "thumb", alt: `sample ${row.cells[0].text}`, src: `data:image/png;base64,${picture}`})] : []),
      make("div", {}, ...last.draw()));
  }
  return {columns: found.columns, rows, label, below: true};
}

function compare(at, numeric) {
  return (a, b, rowA, rowB, column, direction) => {
    const [x, y] = [rowA, rowB].map((row) => row.getData().cells[at]);
    if (!numeric) return x.text.localeCompare(y.text, undefined, {numeric: true});
    // What has no value stands last, whichever way the others are sorted.
    if (x.value === null || y.value === null) {
      const last = (x.value === null) - (y.value === null);
      return direction === "asc" ? last : -last;
    }
    return x.value === y.value ? 0 : x.value < y.value ? -1 : 1;
  };
}

function column(found, at) {
  const {title, numeric, code} = found;
  return {
    title, field: `c${at}`, sorter: compare(at, numeric), responsive: at === 0 ? 0 : at,
    cssClass: [numeric && "numeric", code && "code"].filter(Boolean).join(" "),
    headerSortStartingDir: numeric ? "desc" : "asc", headerHozAlign: numeric ? "right" : "left",
    titleFormatter: () => make("span", {}, title),
    formatter: (cell) => make("div", {}, ...cell.getData().cells[at].draw()),
    minWidth: at === 0 ? 140 : code ? 220 : numeric ? 88 : 110,
    widthGrow: at === 0 || code ? 3 : numeric ? 1 : 2,
  };
}

function folded(items) {
  const list = make("div", {class: "folded"});
  for (const item of items) list.append(make("div", {}, make("b", {}, item.title), item.value));
  return items.length ? list : "";
}

function tools(mount, found, apply) {
  const search = make("input", {type: "search", autocomplete: "off", spellcheck: "false"});
  const count = make("span", {class: "count", role: "status"});
  const choices = found.columns.map((c, at) => {
    const values = [...new Set(found.rows.map((row) => row.cells[at].text))].sort();
    if (!c.choice || values.length < 2 || values.length > 200) return null;
    const select = make("select", {}, make("option", {value: ""}, "all"),
      ...values.map((value, k) => make("option", {value: String(k)}, value || "(none)")));
    return {at, values, select, title: c.title};
  }).filter(Boolean);
  const update = () => {
    const words = search.value.toLowerCase().split(/\s+/).filter(Boolean);
    const wanted = choices.filter((c) => c.select.value !== "").map((c) => [c.at, c.values[Number(c.select.value)]]);
    apply((row) => words.every((word) => row.search.includes(word))
      && wanted.every(([at, value]) => row.cells[at].text === value), words.length + wanted.length > 0);
  };
  search.addEventListener("input", update);
  for (const {select} of choices) select.addEventListener("change", update);
  const bar = make("div", {class: "tools"}, make("label", {}, "Search", search),
    ...choices.map((c) => make("label", {}, c.title, c.select)), count);
  mount.append(bar);
  return {
    count,
    clear() { search.value = ""; for (const {select} of choices) select.value = ""; update(); },
  };
}

function buildGrid(mount, found) {
  for (const row of found.rows) row.search = row.cells.map((c) => c.all).join(" ").toLowerCase();
  let table, pointed = null;
  const total = found.rows.length;
  const bar = tools(mount, found, (test, isNarrowed) => {
    if (isNarrowed) table.setFilter(test); else table.clearFilter();
  });
  const holder = make("div");
  mount.append(holder);
  mount.classList.add("enhanced");
  table = new Tabulator(holder, {
    data: found.rows, index: "id", layout: "fitColumns", responsiveLayout: "collapse",
    responsiveLayoutCollapseFormatter: folded, headerSortClickElement: "header",
    columns: found.columns.slice(0, found.below ? -1 : undefined).map(column),
    height: total > ROWS_TALL ? HEIGHT : false, placeholder: "Nothing matches", keybindings: false,
    rowFormatter: (row) => {
      const {mark, id, below} = row.getData(), element = row.getElement();
      if (mark) element.classList.add(mark);
      element.dataset.id = id;
      if (below && !element.querySelector(".below")) element.append(below());
    },
  });
  holder.setAttribute("aria-label", found.label);
  const say = (shown) => {
    bar.count.textContent = shown === total ? `${total.toLocaleString("en")} rows`
      : `${shown.toLocaleString("en")} of ${total.toLocaleString("en")} rows`;
  };
  say(total);
  table.on("dataFiltered", (filters, rows) => say(rows.length));
  const ready = new Promise((resolve) => table.on("tableBuilt", resolve));
  ready.then(() => {
    // The part that scrolls stands between grid and rows: it takes the role of what is in it.
    const scrolled = holder.querySelector(".tabulator-tableholder");
    scrolled.setAttribute("role", "rowgroup");
    scrolled.querySelector(".tabulator-table").setAttribute("role", "presentation");
    holder.removeAttribute("aria-owns");
    for (const head of holder.querySelectorAll(".tabulator-col.tabulator-sortable")) {
      head.tabIndex = 0;
      head.addEventListener("keydown", (event) => {
        if (event.key === "Enter" || event.key === " ") { event.preventDefault(); head.click(); }
      });
    }
  });
  return {
    async reveal(id) {
      await ready;
      bar.clear();
      if (pointed) table.getRow(pointed).getElement().classList.remove("target");
      const row = table.getRow(pointed = id), element = row.getElement();
      element.classList.add("target");
      element.tabIndex = -1;
      if (total > ROWS_TALL) {
        // Only what is in sight is drawn: to scroll the page to a row would scroll it away. A table
        // that has just been made may be laid out once more, and then starts again at its top.
        holder.scrollIntoView({block: "center"});
        for (let tries = 0; tries < 8; tries++) {
          await table.scrollToRow(id, "top", true).catch(() => {});
          await new Promise((resolve) => setTimeout(resolve, 80));
          if (isInside(element, holder) && tries > 0) break;
        }
      } else {
        element.scrollIntoView({block: "center"});
      }
      element.focus({preventScroll: true});
    },
  };
}

function isInside(element, holder) {
  const inner = element.getBoundingClientRect(), outer = holder.getBoundingClientRect();
  return element.isConnected && inner.top >= outer.top && inner.top < outer.bottom - 20;
}

const isHidden = (element) => element.closest("details:not([open])") !== null;

// A grid measures itself, so it is made when it can first be seen.
function offer(mount, ids, read) {
  let built = null;
  const grid = {ids, build: () => { built ??= buildGrid(mount, read()); return built; }};
  grids.set(mount, grid);
  if (!isHidden(mount)) { grid.build(); return; }
  for (let at = mount.closest("details"); at; at = at.parentElement.closest("details")) {
    at.addEventListener("toggle", () => { if (!isHidden(mount)) grid.build(); });
  }
}

function offerGrids() {
  for (const mount of document.querySelectorAll("[data-grid]")) {
    const table = mount.querySelector("table"), rows = [...table.tBodies[0].rows];
    if (rows.length >= ROWS_MIN) offer(mount, new Set(rows.map((r) => r.id)), () => fromTable(table));
  }
  const mount = document.querySelector("[data-tail]");
  if (mount && data.tail) {
    const label = mount.querySelector("caption").textContent;
    offer(mount, new Set(data.tail.rows.map((row) => anchor("sample", row[0]))), () => fromData(data.tail, label));
  }
}

// ---- Links into the page ------------------------------------------------------------------

const onTarget = [];

function follow() {
  const id = location.hash.slice(1);
  if (!id) return;
  for (const listener of onTarget) listener(id);
  const found = [...grids].find(([, grid]) => grid.ids.has(id));
  const target = found ? found[0] : document.getElementById(id);
  for (let at = target; at; at = at.parentElement) if (at.nodeName === "DETAILS") at.open = true;
  if (found) found[1].build().reveal(id);
  else if (target) target.scrollIntoView();
}

// ---- Plots --------------------------------------------------------------------------------

const DASHES = [[], [8, 4], [2, 3], [8, 3, 2, 3], [5, 2, 2, 2, 2, 2], [1, 3]];
const css = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
const colour = (at) => css(`--c${at % 6}`);
const axis = (label, more = {}) => ({
  label, stroke: css("--ink"), grid: {stroke: css("--line"), width: 1}, ticks: {stroke: css("--line")},
  font: "12px system-ui, sans-serif", labelFont: "12px system-ui, sans-serif", labelSize: 22, ...more,
});

// A chart that is drawn anew when its width or the colour scheme changes.
function chart(mount, height, options, values) {
  let plot = null;
  const width = () => Math.max(240, mount.clientWidth);
  const draw = () => {
    if (plot) plot.destroy();
    plot = new uPlot({...options(), width: width(), height}, values(), mount);
    plot.root.setAttribute("aria-hidden", "true"); // the table beside it says the same
  };
  draw();
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", draw);
  new ResizeObserver(() => { if (plot.width !== width()) plot.setSize({width: width(), height}); }).observe(mount);
  return {draw};
}

function depthChart() {
  const mount = document.querySelector('[data-chart="depth"]'), found = data.depth;
  if (!mount || !found) return;
  const hover = make("p", {class: "hover"}, "Point at a place to see its tensor; click to see its row.");
  const place = make("div");
  mount.append(place, hover);
  mount.classList.add("charted");
  let at = null;
  chart(place, 300, () => ({
    scales: {x: {time: false}}, cursor: {drag: {x: true, y: false}},
    axes: [axis("tensor, in graph order", {incrs: [1, 2, 5, 10, 20, 50, 100, 200, 500, 1000]}), axis("SQNR (dB), higher is better", {size: 46})],
    series: [{label: "tensor", value: (u, v) => v === null ? "—" : String(v)},
      ...found.series.map((s, k) => ({label: s.name, stroke: colour(k), width: 1.6, dash: DASHES[k % 6], points: {show: found.tensors.length < 3 ? true : undefined}, spanGaps: true, value: (u, v) => v === null ? "—" : `${v} dB`}))],
    hooks: {
      setCursor: [(u) => { at = u.cursor.idx; if (at !== null && at !== undefined) hover.textContent = found.tensors[at]; }],
      ready: [(u) => u.over.addEventListener("click", () => { if (at !== null && at !== undefined) location.hash = found.ids[at]; })],
    },
  }), () => [found.tensors.map((_, k) => k), ...found.series.map((s) => s.values)]);
}

const decades = (u, splits) => splits.map((v) => Math.abs(Math.log10(v) - Math.round(Math.log10(v))) < 1e-6 ? v : null);
const EMPTY = 0.5; // where a bar of no values ends, on a logarithmic scale

function histogramChart() {
  const mount = document.querySelector('[data-chart="histograms"]'), found = data.histograms;
  if (!mount || !found) return;
  const select = make("select", {}, ...found.map((h, k) => make("option", {value: String(k)}, h.tensor)));
  const place = make("div"), legend = make("p", {class: "hover"});
  mount.append(make("div", {class: "tools"}, make("label", {}, "Tensor", select)), place, legend);
  mount.classList.add("charted");
  const current = () => found[Number(select.value)];
  const names = (h) => Object.entries(h.amax);
  const spread = (h) => Math.max(...Object.values(h.amax)) / Math.min(...Object.values(h.amax));
  // The one whose calibrators disagree most comes first.
  select.value = String(found.reduce((best, h, k) => spread(h) > spread(found[best]) ? k : best, 0));
  const letter = (k) => String.fromCharCode(65 + k % 26);
  const lines = (u) => {
    const {ctx, bbox} = u;
    ctx.save();
    ctx.lineWidth = 2 * devicePixelRatio;
    ctx.font = `bold ${12 * devicePixelRatio}px system-ui, sans-serif`;
    names(current()).forEach(([, amax], k) => {
      const x = Math.round(u.valToPos(amax, "x", true));
      ctx.strokeStyle = ctx.fillStyle = colour(k);
      ctx.setLineDash(DASHES[k % 6].map((n) => n * devicePixelRatio));
      ctx.beginPath();
      ctx.moveTo(x, bbox.top);
      ctx.lineTo(x, bbox.top + bbox.height);
      ctx.stroke();
      ctx.textAlign = "right";
      ctx.fillText(letter(k), x - 4 * devicePixelRatio, bbox.top + (12 + 14 * k) * devicePixelRatio);
    });
    ctx.restore();
  };
  const step = (h) => h.end / h.counts.length;
  const top = (h) => {
    const used = h.counts.reduce((last, n, k) => n ? k + 1 : last, 1);
    return Math.max(used * step(h), ...names(h).map(([, amax]) => amax)) * 1.02;
  };
  const drawn = chart(place, 280, () => {
    const h = current();
    return {
      scales: {x: {time: false, range: [0, top(h)]}, y: {distr: 3, range: [EMPTY, 2 * Math.max(...h.counts, 1)]}},
      cursor: {drag: {x: false, y: false}},
      axes: [axis("|x|"), axis("values", {size: 64, filter: decades, grid: {stroke: css("--line"), width: 1, filter: decades}, ticks: {stroke: css("--line"), filter: decades}, values: (u, vs) => vs.map((v) => v === null || v < 1 ? "" : Number(v).toLocaleString("en", {notation: "compact"}))})],
      series: [{label: "|x| from", value: (u, v) => v === null ? "—" : v.toPrecision(4)},
        {label: "values", stroke: css("--soft"), fill: `${css("--soft")}55`, width: 1, points: {show: false}, paths: uPlot.paths.stepped({align: 1}), fillTo: () => EMPTY, value: (u, v) => v === null ? "—" : v === EMPTY ? "0" : v.toLocaleString("en")}],
      hooks: {draw: [lines]},
    };
  }, () => {
    const h = current();
    return [h.counts.map((_, k) => k * step(h)), h.counts.map((n) => n || EMPTY)];
  });
  const say = () => { legend.textContent = names(current()).map(([name, amax], k) => `${letter(k)}: ${name} ${amax}`).join("; "); };
  say();
  select.addEventListener("change", () => { drawn.draw(); say(); });
  onTarget.push((id) => {
    const k = found.findIndex((h) => h.id === id);
    if (k >= 0) { select.value = String(k); drawn.draw(); say(); }
  });
}

offerGrids();
depthChart();
histogramChart();
addEventListener("hashchange", follow);
follow();
})();
