// How the search went: the front's volume, learning curves, how trials ended, where the time went; and sensitivities.

function drawSearch() {
  const parts = [volumeChart(), curvesChart(), timeBars()].filter((part) => part !== null);
  fill("search", parts);
  const early = run.trials.filter(
    (trial) => !trial.compared && !["COMPLETE", "SUBNET", "DUPLICATE"].includes(trial.outcome),
  );
  if (early.length) fill("ended", endedList(early));
}

function titled(words, ...content) {
  return make("div", {}, make("h3", {}, words), ...content);
}

// ---------------------------------------------------------------- the front's volume

function volumeChart() {
  if (run.volume.length < 2) return null;
  const holder = make("div", { class: "chart" });
  const draw = () => holder.replaceChildren(volumeDrawing(holder));
  const axis = choices(
    [
      ["trials", "trials"],
      ["minutes", "minutes of trials"],
    ],
    state.volumeBy,
    (name) => {
      state.volumeBy = name;
      draw();
    },
  );
  view.redraw.push(draw);
  const note =
    "The volume that the front dominates within the reference point. Minutes are those that trainers spent on trials, " +
    "added up; what they share, such as a supernet, is not in them.";
  return titled(
    "The front's volume",
    make("div", { class: "controls" }, labelled("against", axis)),
    holder,
    make("p", { class: "small" }, note),
  );
}

function volumeDrawing(holder) {
  const byTrials = state.volumeBy === "trials";
  const points = run.volume.map(([number, seconds, volume]) => [byTrials ? number : seconds / 60, volume]);
  const all = run.trials.reduce((sum, trial) => sum + trial.seconds, 0) / 60;
  const end = Math.max(byTrials ? run.trials.at(-1).number : all, points.at(-1)[0], 1e-6),
    top = points.at(-1)[1];
  const frame = chartFrame(holder, {
    height: 240,
    label: `volume against ${state.volumeBy}: ${digits(points[0][1])} at first, ${digits(top)} in the end`,
  });
  const across = linearScale(0, end, frame.edges.left, frame.edges.right),
    up = linearScale(0, 1.05 * top, frame.edges.bottom, frame.edges.top + 8);
  drawAxes(
    frame,
    { scale: across, ticks: linearTicks(0, end), name: byTrials ? "trial" : "minutes of trials" },
    { scale: up, ticks: linearTicks(0, 1.05 * top, 4), name: "volume" },
  );
  const path = points
    .map(([x, y], place) =>
      place ? `H${across(x).toFixed(1)}V${up(y).toFixed(1)}` : `M${across(x).toFixed(1)} ${up(y).toFixed(1)}`,
    )
    .join("");
  frame.drawing.append(make("path", { class: "best", d: `${path}H${frame.edges.right}` }));
  return frame.drawing;
}

// ---------------------------------------------------------------- learning curves

const CURVES = { front: "on the front", other: "trained to the end", stopped: "stopped, diverged or failed" };

function curveKind(trial) {
  if (trial.on_front || trial.number === run.baseline) return "front";
  return trial.outcome === "COMPLETE" ? "other" : "stopped";
}

function curvesChart() {
  const trained = run.trials.filter(
    (trial) => trial.curve.length > 1 || (trial.curve.length && trial.outcome === "STOPPED"),
  );
  if (!trained.length) return null;
  const holder = make("div", { class: "chart" });
  view.redraw.push(() => holder.replaceChildren(curvesDrawing(holder, trained)));
  const kinds = Object.keys(CURVES).filter((kind) => trained.some((trial) => curveKind(trial) === kind));
  const legend = make(
    "p",
    { class: "legend" },
    kinds.map((kind) => make("span", { class: "entry" }, make("i", { class: `line ${kind}` }), CURVES[kind])),
  );
  return titled(
    "Learning curves",
    holder,
    legend,
    make("p", { class: "small" }, "Epoch 0 is a subnet before any training of its own."),
  );
}

function curvesDrawing(holder, trained) {
  const points = trained.flatMap((trial) => trial.curve.filter(([, accuracy]) => isNumber(accuracy)));
  const last = Math.max(...points.map(([epoch]) => epoch), 1),
    first = Math.min(...points.map(([epoch]) => epoch), 1);
  const [low, high] = [
    Math.min(...points.map(([, accuracy]) => accuracy)),
    Math.max(...points.map(([, accuracy]) => accuracy)),
  ];
  const frame = chartFrame(holder, { height: 260, label: `accuracy by epoch of ${count(trained.length, "trial")}` });
  const across = linearScale(first, last, frame.edges.left + 6, frame.edges.right),
    up = linearScale(100 * low, 100 * high, frame.edges.bottom - 6, frame.edges.top + 10);
  const epochs = linearTicks(first, last).filter(Number.isInteger);
  drawAxes(
    frame,
    { scale: across, ticks: epochs, name: "epoch" },
    { scale: up, ticks: linearTicks(100 * low, 100 * high, 5), name: "validation accuracy, %" },
  );
  for (const kind of ["stopped", "other", "front"]) {
    for (const trial of trained.filter((each) => curveKind(each) === kind)) {
      const places = trial.curve
        .filter(([, accuracy]) => isNumber(accuracy))
        .map(([epoch, accuracy]) => `${across(epoch).toFixed(1)} ${up(100 * accuracy).toFixed(1)}`);
      if (!places.length) continue;
      const curve = make(
        "path",
        { class: `curve ${kind}`, d: `M${places.join("L")}` },
        make("title", {}, `${trialName(trial)}: ${trial.ended}`),
      );
      frame.drawing.append(curve);
      const [x, y] = places.at(-1).split(" ").map(Number);
      if (kind === "stopped")
        frame.drawing.append(make("path", { class: "curve stopped end", d: `M${x - 3} ${y - 3}l6 6m0 -6l-6 6` }));
    }
  }
  return frame.drawing;
}

function endedList(early) {
  const rows = early.map((trial) => [
    String(trial.number),
    String(trial.curve.at(-1)?.[0] ?? 0),
    percent(trial.accuracy),
    trial.ended,
  ]);
  const drawn = table(["trial", "epochs", "accuracy, %", "how it ended"], rows, { left: 1 });
  for (const row of drawn.rows) row.cells[3].className = "left";
  return make(
    "details",
    {},
    make("summary", {}, `${count(early.length, "trial")} that left no network, with the reasons`),
    make(
      "div",
      { class: "scroll tall", tabindex: 0, role: "group", "aria-label": "trials that left no network" },
      drawn,
    ),
  );
}

// ---------------------------------------------------------------- time

function timeBars() {
  const spent = new Map();
  for (const trial of run.trials)
    spent.set(trial.ended.split(":")[0], (spent.get(trial.ended.split(":")[0]) ?? 0) + trial.seconds);
  const works = new Map();
  for (const [process, seconds] of Object.entries(run.profile)) {
    if (process === "coordinator") continue;
    for (const [work, value] of Object.entries(seconds)) works.set(work, (works.get(work) ?? 0) + value);
  }
  const parts = [];
  if (spent.size) parts.push(durationTable("trials by how they ended", spent));
  if (works.size) parts.push(durationTable("trainers, in the latest start", works));
  return parts.length ? titled("Where the time went", ...parts) : null;
}

function durationTable(words, spent) {
  const rows = [...spent].sort((one, other) => other[1] - one[1]),
    most = Math.max(...rows.map(([, seconds]) => seconds), 1e-9);
  const body = rows.map(([name, seconds]) => [
    name,
    make(
      "span",
      { class: "stack" },
      make("i", { class: "part-0", style: `width:${((100 * seconds) / most).toFixed(2)}%` }),
    ),
    duration(seconds),
  ]);
  return table([words, "", "h:min:s"], body, { left: 2, kind: "spent" });
}

// ---------------------------------------------------------------- sensitivity

function drawSensitivity() {
  const found = run.sensitivity;
  if (!found) return drop("sensitivity-section");
  const steps = found.fewer_steps.map((each) => `${pointsLost(each.loss)} at ${each.value}`).join(", ");
  fill(
    "sensitivity-lead",
    `Points of validation accuracy lost against ${percent(found.accuracy)} % and ${digits(found.memory_bytes / 1024)} ` +
      `KiB with every layer at its most precise choice, on ${grouped(found.samples, 0)} samples; small: KiB saved.` +
      (steps ? ` By fewer than ${stepsText(found.steps)}, in all layers: ${steps}.` : ""),
  );
  const most = Math.max(0.05, ...found.maps.flatMap((map) => map.choices.map((choice) => choice.loss)));
  fill(
    "sensitivity",
    found.maps.map((map) => sensitivityMap(map, most)),
  );
}

function pointsLost(loss) {
  return (100 * loss).toFixed(2).replace("-0.00", "0.00");
}

function sensitivityMap({ parameter, choices: listed }, most) {
  const columns = [...new Map(listed.map((choice) => [choice.value, choice.words]))];
  const ordered = columns.sort(([one], [other]) => (other || Infinity) - (one || Infinity));
  const layers = run.layers.filter((name) => listed.some((choice) => choice.layer === name));
  const body = layers.map((name) => {
    const cells = ordered.map(([value]) => {
      const choice = listed.find((each) => each.layer === name && each.value === value);
      if (!choice) return make("td", { class: "blank" });
      const shade = Math.min(1, Math.max(0, choice.loss / most)).toFixed(3);
      return make(
        "td",
        { class: "shade wide", style: `--v:${shade}` },
        pointsLost(choice.loss),
        make("small", {}, digits(choice.bytes_saved / 1024)),
      );
    });
    return make("tr", {}, make("th", { scope: "row", class: "left" }, name), cells);
  });
  const heads = make(
    "tr",
    {},
    make("th", { scope: "col", class: "left" }, "layer"),
    ordered.map(([, words]) => make("th", { scope: "col" }, words)),
  );
  const words = parameter === "weight_bits" ? "weights" : "membranes";
  return titled(
    words,
    make(
      "div",
      { class: "scroll", tabindex: 0, role: "group", "aria-label": `sensitivity of ${words}` },
      make("table", { class: "map" }, make("thead", {}, heads), make("tbody", {}, body)),
    ),
  );
}
