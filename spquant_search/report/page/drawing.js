// Elements, scales and axes. Text always becomes a text node: no string is ever read as markup.

const SVG = "http://www.w3.org/2000/svg";
const SVG_TAGS = new Set(["svg", "g", "path", "line", "rect", "text", "circle", "title"]);

function make(tag, attributes = {}, ...children) {
  const element = SVG_TAGS.has(tag) ? document.createElementNS(SVG, tag) : document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (value !== null && value !== undefined && value !== false)
      element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children.flat().filter((child) => child !== null && child !== undefined));
  return element;
}

const byId = (id) => document.getElementById(id);

function fill(id, ...children) {
  byId(id).replaceChildren(...children.flat());
}

function drop(id) {
  byId(id).remove();
}

function labelled(words, control, unit = "") {
  return make("label", {}, make("span", {}, words), control, unit ? make("span", { class: "unit" }, unit) : null);
}

function choices(pairs, chosen, change) {
  const options = pairs.map(([value, words]) => make("option", { value, selected: value === chosen }, words));
  return make("select", { onchange: (event) => change(event.target.value) }, options);
}

function checkbox(words, checked, change) {
  const box = make("input", { type: "checkbox", checked, onchange: (event) => change(event.target.checked) });
  return make("label", { class: "check" }, box, make("span", {}, words));
}

function table(heads, rows, { left = 1, kind = null } = {}) {
  const side = (place) => (place < left ? "left" : null);
  const cell = (content, place) =>
    place === 0
      ? make("th", { scope: "row", class: side(place) }, content)
      : make("td", { class: side(place) }, content);
  return make(
    "table",
    { class: kind },
    make(
      "thead",
      {},
      make(
        "tr",
        {},
        heads.map((head, place) => (head ? make("th", { scope: "col", class: side(place) }, head) : make("td"))),
      ),
    ),
    make(
      "tbody",
      {},
      rows.map((cells) => make("tr", {}, cells.map(cell))),
    ),
  );
}

// ---------------------------------------------------------------- scales

function logScale(low, high, from, to) {
  const [bottom, top] = [Math.log(low), Math.log(high > low ? high : low * 1.1)];
  return (value) => from + ((Math.log(value) - bottom) / (top - bottom)) * (to - from);
}

function linearScale(low, high, from, to) {
  return (value) => from + ((value - low) / (high - low || 1)) * (to - from);
}

function logTicks(low, high) {
  const spread = high / low,
    steps = spread > 300 ? [1] : spread > 6 ? [1, 2, 5] : [1, 1.5, 2, 3, 4, 5, 6, 7, 8, 9];
  const ticks = [];
  for (let decade = Math.floor(Math.log10(low)); decade <= Math.ceil(Math.log10(high)); decade++) {
    ticks.push(...steps.map((step) => Number(`${step}e${decade}`)).filter((tick) => tick >= low && tick <= high));
  }
  return ticks;
}

function linearTicks(low, high, wanted = 6) {
  const raw = (high - low || 1) / wanted,
    size = 10 ** Math.floor(Math.log10(raw));
  const step = [1, 2, 5, 10].map((part) => part * size).find((candidate) => candidate >= raw);
  const ticks = [];
  for (let place = Math.ceil(low / step); place * step <= high + 1e-9 * step; place++) ticks.push(place * step);
  return ticks;
}

function tickText(value) {
  return Number(value.toPrecision(6)).toLocaleString("en-US", { maximumFractionDigits: 6 });
}

// A frame with both axes; returns the drawing and the places of its edges.
function chartFrame(holder, { height, label, left = 46, bottom = 40 }) {
  const width = Math.max(280, Math.round(holder.clientWidth || 640));
  const edges = { left, right: width - 12, top: 12, bottom: height - bottom };
  const drawing = make("svg", { viewBox: `0 0 ${width} ${height}`, role: "group", "aria-label": label });
  return { drawing, edges, width, height };
}

function drawAxes({ drawing, edges, width, height }, across, up) {
  const ticks = make("g", { class: "axes", "aria-hidden": "true" });
  // Labels that would touch are left out.
  let last = -Infinity;
  for (const tick of across.ticks) {
    const x = across.scale(tick),
      words = tickText(tick);
    ticks.append(make("line", { x1: x, x2: x, y1: edges.top, y2: edges.bottom }));
    if (x - last < 7 * words.length + 8) continue;
    ticks.append(make("text", { x, y: edges.bottom + 16, "text-anchor": "middle" }, words));
    last = x;
  }
  for (const tick of up.ticks) {
    const y = up.scale(tick);
    ticks.append(make("line", { x1: edges.left, x2: edges.right, y1: y, y2: y }));
    ticks.append(make("text", { x: edges.left - 6, y: y + 4, "text-anchor": "end" }, tickText(tick)));
  }
  ticks.append(make("text", { class: "name", x: edges.right, y: height - 6, "text-anchor": "end" }, across.name));
  ticks.append(make("text", { class: "name", x: 0, y: edges.top - 2 }, up.name));
  drawing.append(ticks);
}

// ---------------------------------------------------------------- what is shown where the pointer or the focus is

function showTip(content, target) {
  const tip = byId("tip"),
    box = target.getBoundingClientRect();
  tip.replaceChildren(...content);
  tip.hidden = false;
  const beside = box.right + 14 + tip.offsetWidth < document.documentElement.clientWidth;
  const left = beside ? box.right + 10 : Math.max(4, box.left - tip.offsetWidth - 10);
  const top = Math.min(Math.max(4, box.top - 20), Math.max(4, window.innerHeight - tip.offsetHeight - 4));
  tip.style.left = `${left + window.scrollX}px`;
  tip.style.top = `${top + window.scrollY}px`;
}

function hideTip() {
  byId("tip").hidden = true;
}

function withTip(element, content) {
  for (const event of ["pointerenter", "focus"]) element.addEventListener(event, () => showTip(content(), element));
  for (const event of ["pointerleave", "blur"]) element.addEventListener(event, hideTip);
  return element;
}
