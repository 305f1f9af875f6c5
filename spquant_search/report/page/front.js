// The front: accuracy against any cost, coloured by another; a point is chosen by pointer or keyboard.

const SHAPES = {
  circle: (r) => `M${-r} 0a${r} ${r} 0 1 0 ${2 * r} 0a${r} ${r} 0 1 0 ${-2 * r} 0z`,
  diamond: (r) => `M0 ${-1.25 * r}L${1.25 * r} 0L0 ${1.25 * r}L${-1.25 * r} 0z`,
  square: (r) => `M${-r} ${-r}H${r}V${r}H${-r}z`,
  triangle: (r) => `M0 ${-1.3 * r}L${1.2 * r} ${r}H${-1.2 * r}z`,
  star: (r) =>
    [...Array(10).keys()]
      .map((tip) => [tip % 2 ? 0.62 * r : 1.5 * r, (tip * Math.PI) / 5 - Math.PI / 2])
      .map(
        ([far, angle], tip) =>
          `${tip ? "L" : "M"}${(far * Math.cos(angle)).toFixed(2)} ${(far * Math.sin(angle)).toFixed(2)}`,
      )
      .join("") + "z",
};

// In the order of the legend.
const KINDS = {
  trained: { words: "front, trained", shape: "circle", size: 6 },
  subnet: { words: "front, not fine-tuned (subnet)", shape: "diamond", size: 5 },
  baseline: { words: "float baseline", shape: "star", size: 7 },
  preset: { words: "preset", shape: "triangle", size: 6 },
  reference: { words: "reference of uniform precision", shape: "square", size: 5 },
  other: { words: "other trial", shape: "circle", size: 3.5 },
};

function kindOf(trial) {
  if (trial.number === run.baseline) return "baseline";
  if (trial.origin === "reference") return trial.mark.startsWith("preset") ? "preset" : "reference";
  if (!trial.on_front) return "other";
  return trial.trained ? "trained" : "subnet";
}

function shownTrials() {
  const shown = run.trials.filter((trial) => trial.compared && hasLogarithm(trial.figures[state.along]));
  return state.others ? shown : shown.filter((trial) => kindOf(trial) !== "other");
}

function frontControls() {
  const costs = run.costs.filter((cost) => run.trials.some((trial) => trial.compared && hasLogarithm(trial.figures[cost.name])));
  const pairs = costs.map((cost) => [cost.name, `${cost.words}, ${cost.unit}`]);
  const redraw = (change) => (value) => {
    change(value);
    drawFront();
  };
  fill(
    "front-controls",
    labelled(
      "accuracy against",
      choices(
        pairs,
        state.along,
        redraw((name) => (state.along = name)),
      ),
    ),
    labelled(
      "colour",
      choices(
        [["", "none"], ...pairs],
        state.colour,
        redraw((name) => (state.colour = name)),
      ),
    ),
    checkbox(
      "other trials",
      state.others,
      redraw((shown) => (state.others = shown)),
    ),
    checkbox(
      "error bars",
      state.bars,
      redraw((shown) => (state.bars = shown)),
    ),
  );
}

function drawFront() {
  const trials = shownTrials(),
    cost = costOf(state.along);
  if (!trials.length) return fill("front", make("p", { class: "notice" }, "No trial has left a network yet."));
  const holder = byId("front");
  const frame = chartFrame(holder, {
    height: 540,
    label: `accuracy against ${cost.words}; arrow keys go from trial to trial`,
  });
  const scales = frontScales(trials, frame, cost);
  drawAxes(frame, scales.across, scales.up);
  frame.drawing.append(
    make("rect", { class: "beyond", id: "beyond-across" }),
    make("rect", { class: "beyond", id: "beyond-up" }),
  );
  if (state.bars)
    frame.drawing.append(
      ...trials.filter((trial) => kindOf(trial) !== "other").flatMap((trial) => errorBars(trial, scales)),
    );
  frame.drawing.append(make("path", { class: "best", d: bestLine(trials, scales, frame.edges) }));
  frame.drawing.append(make("circle", { id: "ring", r: 12 }));
  const order = Object.keys(KINDS).reverse();
  const drawn = [...trials].sort((one, other) => order.indexOf(kindOf(one)) - order.indexOf(kindOf(other)));
  const points = new Map(drawn.map((trial) => [trial.number, point(trial, scales)]));
  frame.drawing.append(...points.values());
  if (scales.below)
    frame.drawing.append(
      make(
        "text",
        { class: "note", x: frame.edges.left + 6, y: frame.edges.bottom - 6 },
        `${count(scales.below, "trial")} below the axis`,
      ),
    );
  holder.replaceChildren(frame.drawing);
  view.front = { points, scales, edges: frame.edges, inOrder: inOrderOf(trials, state.along) };
  frontLegend(trials, scales);
  markFront();
}

function inOrderOf(trials, name) {
  return [...trials].sort((one, other) => one.figures[name] - other.figures[name] || one.number - other.number);
}

function frontScales(trials, { edges }, cost) {
  const shown = trials.map((trial) => trial.figures[cost.name] / cost.of_one);
  const [least, most] = [Math.min(...shown), Math.max(...shown)];
  const margin = (most / least) ** 0.05 * 1.04,
    [low, high] = [least / margin, most * margin];
  const across = logScale(low, high, edges.left, edges.right);
  // The axis reaches as far below the points that matter as they reach themselves; failed trials are counted.
  const top = Math.max(...trials.map((trial) => trial.accuracy));
  const matter = trials.filter((trial) => kindOf(trial) !== "other").map((trial) => trial.accuracy);
  const lowest = Math.min(...(matter.length ? matter : [top]));
  const reach = lowest - Math.max(top - lowest, 0.02);
  const bottom = Math.min(...trials.map((trial) => trial.accuracy).filter((accuracy) => accuracy >= reach));
  const ends = state.bars ? trials.filter((trial) => trial.on_front && isNumber(trial.low)) : [];
  const from = Math.max(0, 100 * Math.min(bottom, ...ends.map((trial) => trial.low)) - 0.5);
  const to = Math.min(101, 100 * Math.max(top, ...ends.map((trial) => trial.high)) + 0.5);
  const up = linearScale(from, to, edges.bottom, edges.top + 10);
  return {
    across: { scale: across, ticks: logTicks(low, high), name: `${cost.words}, ${cost.unit} (logarithmic)` },
    up: { scale: up, ticks: linearTicks(from, to), name: "validation accuracy, %" },
    x: (trial) => across(trial.figures[cost.name] / cost.of_one),
    y: (trial) => up(100 * trial.accuracy),
    shade: colourScale(trials),
    below: trials.filter((trial) => 100 * trial.accuracy < from).length,
  };
}

// From a trial to where its colour lies between the least and the most: 0 to 1; null where colours mean nothing.
function colourScale(trials) {
  const values = trials.map((trial) => trial.figures[state.colour]).filter(hasLogarithm);
  if (!state.colour || Math.min(...values) === Math.max(...values) || !values.length) return null;
  const scale = logScale(Math.min(...values), Math.max(...values), 0, 1);
  return (trial) => {
    const value = trial.figures[state.colour];
    return hasLogarithm(value) ? scale(value).toFixed(3) : null;
  };
}

function point(trial, { x, y, shade }) {
  const kind = KINDS[kindOf(trial)],
    place = shade ? shade(trial) : null;
  const element = make(
    "g",
    {
      class: `point ${kindOf(trial)}`,
      role: "button",
      tabindex: -1,
      transform: `translate(${x(trial).toFixed(1)} ${y(trial).toFixed(1)})`,
      "aria-label": pointWords(trial),
      onclick: () => chooseByHand(trial),
      onkeydown: (event) => pointKey(event, trial),
    },
    make("circle", { class: "reach", r: kindOf(trial) === "other" ? 6 : 11 }),
    make("path", {
      class: place === null ? "shape" : "shape ramp",
      d: SHAPES[kind.shape](kind.size),
      style: place === null ? null : `--v:${place}`,
    }),
  );
  return withTip(element, () => trialCard(trial));
}

function pointWords(trial) {
  const costs = run.costs.filter((cost) => cost.is_objective).map((cost) => costText(cost, trial.figures[cost.name]));
  return `${trialName(trial)}: ${percent(trial.accuracy)} %, ${costs.join(", ")}`;
}

function pointKey(event, trial) {
  if (event.key === "Enter" || event.key === " ") {
    event.preventDefault();
    chooseByHand(trial);
    return;
  }
  const { points, inOrder } = view.front,
    here = inOrder.indexOf(trial);
  const steps = {
    ArrowRight: here + 1,
    ArrowUp: here + 1,
    ArrowLeft: here - 1,
    ArrowDown: here - 1,
    Home: 0,
    End: inOrder.length - 1,
  };
  const next = inOrder[steps[event.key]];
  if (!next) return;
  event.preventDefault();
  for (const each of points.values()) each.setAttribute("tabindex", -1);
  points.get(next.number).setAttribute("tabindex", 0);
  points.get(next.number).focus();
}

// The interval of an accuracy, and thick the spread of the seeds that a trial was fine-tuned with.
function errorBars(trial, { x, up }) {
  const bar = (low, high, kind) =>
    make("line", { class: kind, x1: x(trial), x2: x(trial), y1: up.scale(100 * low), y2: up.scale(100 * high) });
  const drawn = isNumber(trial.low) ? [bar(trial.low, trial.high, "interval")] : [];
  const [, mean, spread] = trial.seeds ?? [];
  return isNumber(spread) ? [...drawn, bar(mean - spread, mean + spread, "spread")] : drawn;
}

// The best accuracy within each cost, of the members of the front.
function bestLine(trials, { x, y }, edges) {
  let best = -1,
    path = "";
  for (const trial of inOrderOf(
    trials.filter((each) => each.on_front),
    state.along,
  )) {
    if (trial.accuracy <= best) continue;
    best = trial.accuracy;
    path += path ? `H${x(trial).toFixed(1)}V${y(trial).toFixed(1)}` : `M${x(trial).toFixed(1)} ${y(trial).toFixed(1)}`;
  }
  return path ? `${path}H${edges.right}` : "";
}

// What budgets and the choice change: nothing is drawn anew.
function markFront() {
  if (!view.front) return;
  const { points, scales, edges, inOrder } = view.front,
    cost = costOf(state.along);
  for (const [number, element] of points) {
    const trial = trialOf(number);
    element.classList.toggle("unfit", !fits(trial, state.budget));
    element.setAttribute("aria-pressed", String(trial === state.chosen));
  }
  const focused = inOrder.includes(state.chosen) ? state.chosen : inOrder[0];
  for (const [number, element] of points) element.setAttribute("tabindex", number === focused.number ? 0 : -1);
  const ring = byId("ring"),
    isShown = points.has(state.chosen?.number);
  ring.setAttribute("visibility", isShown ? "visible" : "hidden");
  if (isShown) {
    ring.setAttribute("cx", scales.x(state.chosen));
    ring.setAttribute("cy", scales.y(state.chosen));
  }
  const clip = (value, low, high) => Math.min(high, Math.max(low, value));
  const across =
    cost.name in state.budget
      ? clip(scales.across.scale(state.budget[cost.name] / cost.of_one), edges.left, edges.right)
      : edges.right;
  const up =
    "accuracy" in state.budget
      ? clip(scales.up.scale(100 * state.budget.accuracy), edges.top, edges.bottom)
      : edges.bottom;
  place(byId("beyond-across"), across, edges.top, edges.right - across, edges.bottom - edges.top);
  place(byId("beyond-up"), edges.left, up, edges.right - edges.left, edges.bottom - up);
}

function place(rectangle, x, y, width, height) {
  for (const [name, value] of Object.entries({ x, y, width: Math.max(0, width), height: Math.max(0, height) }))
    rectangle.setAttribute(name, value);
}

function frontLegend(trials, { shade }) {
  const kinds = Object.keys(KINDS).filter((kind) => trials.some((trial) => kindOf(trial) === kind));
  const entries = kinds.map((kind) => {
    const icon = make(
      "svg",
      { viewBox: "-10 -10 20 20", class: `icon ${kind}`, "aria-hidden": "true" },
      make("path", { class: "shape", d: SHAPES[KINDS[kind].shape](KINDS[kind].size) }),
    );
    return make("span", { class: `entry point ${kind}` }, icon, KINDS[kind].words);
  });
  entries.push(make("span", { class: "entry" }, make("i", { class: "line" }), "best accuracy within the cost"));
  if (state.bars)
    entries.push(
      make("span", { class: "entry" }, make("i", { class: "bar" }), `${100 * run.confidence} % interval (Wilson)`),
    );
  if (state.bars && trials.some((trial) => isNumber(trial.seeds?.[2]))) {
    entries.push(
      make("span", { class: "entry" }, make("i", { class: "bar thick" }), "mean and spread of several seeds"),
    );
  }
  const colours = shade ? [colourLegend(trials)] : [];
  fill("front-legend", ...colours, ...entries);
}

function colourLegend(trials) {
  const cost = costOf(state.colour),
    values = trials.map((trial) => trial.figures[cost.name]).filter(hasLogarithm);
  const ends = [Math.min(...values), Math.max(...values)].map((value) => costNumber(cost, value));
  return make(
    "span",
    { class: "entry" },
    make("span", {}, `${cost.words}, ${cost.unit}:`),
    make("span", {}, ends[0]),
    make("i", { class: "gradient" }),
    make("span", {}, ends[1]),
  );
}

// What a trial is, for the tip: its figures, and every layer in words.
function trialCard(trial) {
  const figures = run.costs
    .filter((cost) => isNumber(trial.figures[cost.name]))
    .map((cost) => costText(cost, trial.figures[cost.name]) + ` of ${cost.words}`);
  const steps = run.steps.length > 1 ? [stepsText(trial.time_steps)] : [];
  return [
    make("strong", {}, trialName(trial)),
    make("p", {}, [`accuracy ${accuracyText(trial)}`, ...figures, ...steps].join("; ")),
    make(
      "ul",
      {},
      run.layers.map((name, layer) => make("li", {}, make("b", {}, name), ` ${layerWords(trial, layer)}`)),
    ),
  ];
}
