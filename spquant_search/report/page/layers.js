// Layers: a map of layers by members, bytes and operations of the chosen member's, and two members side by side.

// What a map shows of a layer: the text of a cell, and how precise (or open) it is, 0 to 1; null: a blank cell.
const MAPS = [
  {
    column: "bits",
    words: "weight bits",
    cell: (bits) => ({ text: bitsText(bits), shade: Math.min(1, Math.log2(bits + 1) / Math.log2(33)) }),
  },
  {
    column: "levels",
    words: "membrane levels",
    cell: (levels) =>
      levels === null
        ? null
        : { text: levelsText(levels), shade: levels === 0 ? 1 : Math.min(1, Math.log2(levels) / 9) },
  },
  {
    column: "open",
    words: "open channels, %",
    cell: (open, trial, layer) =>
      trial.layers.mass[layer] < 1 && isNumber(open) ? { text: String(Math.round(100 * open)), shade: open } : null,
  },
  { column: "skip", words: "skips below", cell: (skip) => (skip === null ? null : { text: String(skip), shade: 0.5 }) },
];

function mapCell(map, trial, layer) {
  const values = trial.layers[map.column];
  return values === undefined ? null : map.cell(values[layer], trial, layer);
}

function drawMap() {
  const rows = [...run.front];
  if (!rows.length) return drop("map-section");
  // Layers and whole maps are left out where nothing but the float baseline has any cell.
  const searched = rows.filter((trial) => trial.number !== run.baseline);
  const maps = MAPS.map((map) => ({
    ...map,
    layers: run.layers
      .map((_, layer) => layer)
      .filter((layer) => (searched.length ? searched : rows).some((trial) => mapCell(map, trial, layer))),
  })).filter((map) => map.layers.length);
  const groups = maps.map((map) =>
    make("th", { scope: "colgroup", colspan: map.layers.length, class: "group" }, map.words),
  );
  const names = maps.flatMap((map) =>
    map.layers.map((layer, place) =>
      make("th", { scope: "col", class: place ? "layer" : "layer first" }, make("span", {}, run.layers[layer])),
    ),
  );
  const body = rows.map((trial) => {
    const name = make(
      "button",
      { type: "button", "data-trial": trial.number, onclick: () => chooseByHand(trial) },
      `${trial.number}`,
    );
    withTip(name, () => trialCard(trial));
    const cells = maps.flatMap((map) =>
      map.layers.map((layer, place) => shadedCell(mapCell(map, trial, layer), place === 0)),
    );
    return make("tr", {}, make("th", { scope: "row" }, name, make("span", {}, ` ${percent(trial.accuracy)} %`)), cells);
  });
  fill(
    "map",
    make(
      "table",
      { class: "map" },
      make(
        "thead",
        {},
        make("tr", {}, make("th", { rowspan: 2, scope: "col" }, "trial"), groups),
        make("tr", {}, names),
      ),
      make("tbody", {}, body),
    ),
  );
}

function shadedCell(found, isFirst) {
  const edge = isFirst ? " first" : "";
  return found
    ? make("td", { class: `shade${edge}`, style: `--v:${found.shade.toFixed(3)}` }, found.text)
    : make("td", { class: `blank${edge}` });
}

function markMap() {
  for (const button of document.querySelectorAll("#map [data-trial]")) {
    const trial = trialOf(Number(button.dataset.trial)),
      row = button.closest("tr");
    row.classList.toggle("unfit", !fits(trial, state.budget));
    row.classList.toggle("chosen", trial === state.chosen);
    button.setAttribute("aria-pressed", String(trial === state.chosen));
  }
}

// ---------------------------------------------------------------- bytes and operations

const BYTE_PARTS = [
  ["weight_bytes", "weights"],
  ["membrane_bytes", "membranes"],
  ["other_bytes", "scales, offsets, predictors"],
];

function drawBars() {
  const trial = state.chosen;
  if (!trial) return fill("bars-lead", "");
  fill("bars-lead", `Of ${trialName(trial)}, which is chosen above.`);
  const drawn = [];
  const { weight_bytes: weights, flops, sops } = trial.layers;
  if (weights)
    drawn.push(
      barTable(
        "KiB",
        BYTE_PARTS.map(([, words]) => words),
        run.layers.map((_, layer) => BYTE_PARTS.map(([name]) => trial.layers[name][layer] / 1024)),
      ),
    );
  if (flops) drawn.push(operationBars(trial, flops, sops));
  fill(
    "bars",
    drawn.length ? drawn : make("p", { class: "notice" }, "Bytes and operations by layer are not known of this trial."),
  );
}

// Of dense operations: those at inputs that are not zero, those at zeros, and those that gates and masks save.
function operationBars(trial, flops, sops) {
  const rows = run.layers.map((_, layer) => {
    const effective = (flops[layer] ?? 0) / 1e6,
      active = Math.min(effective, (2 * (sops[layer] ?? 0)) / 1e6);
    const dense = run.shapes.length ? (run.shapes[layer].dense_flops * trial.time_steps) / 1e6 : effective;
    return [active, effective - active, Math.max(0, dense - effective)];
  });
  return barTable("MFLOPs", ["at non-zero inputs", "at zeros", "saved by gates and masks"], rows);
}

// Parts that no layer has are left out.
function barTable(unit, words, values) {
  const used = words.map((_, part) => part).filter((part) => values.some((row) => row[part] > 0));
  const parts = used.map((part) => words[part]),
    rows = values.map((row) => used.map((part) => row[part]));
  const sums = rows.map((row) => row.reduce((sum, value) => sum + value, 0)),
    most = Math.max(...sums, 1e-12);
  const legend = make(
    "p",
    { class: "legend" },
    parts.map((words, part) => make("span", { class: "entry" }, make("i", { class: `block part-${part}` }), words)),
  );
  const body = rows.map((row, layer) => [
    run.layers[layer],
    make(
      "span",
      { class: "stack", title: row.map((value, part) => `${digits(value)} ${unit} ${parts[part]}`).join("; ") },
      row.map((value, part) =>
        make("i", { class: `part-${part}`, style: `width:${((100 * value) / most).toFixed(2)}%` }),
      ),
    ),
    ...row.map(digits),
  ]);
  return make(
    "div",
    {},
    make("h3", {}, unit),
    legend,
    make(
      "div",
      { class: "scroll", tabindex: 0, role: "group", "aria-label": `${unit} of every layer` },
      table(["layer", "", ...parts], body, { left: 2, kind: "parts" }),
    ),
  );
}

// ---------------------------------------------------------------- side by side

function drawBesideControls() {
  const listed = run.trials
    .filter((trial) => trial.compared)
    .map((trial) => [String(trial.number), `${trialName(trial)}, ${percent(trial.accuracy)} %`]);
  if (listed.length < 2) return drop("beside-section");
  state.other = trialOf(run.baseline) ?? run.front[0];
  fill(
    "beside-controls",
    make("span", { id: "beside-chosen" }),
    labelled(
      "beside",
      choices(listed, String(state.other.number), (number) => {
        state.other = trialOf(Number(number));
        drawBeside();
      }),
    ),
  );
}

function drawBeside() {
  if (!byId("beside") || !state.chosen) return;
  const pair = [state.chosen, state.other];
  fill("beside-chosen", `${trialName(state.chosen)}, chosen above,`);
  const rows = [["validation accuracy", ...pair.map(accuracyText)]];
  if (pair.some((trial) => isNumber(trial.test)))
    rows.push(["test accuracy", ...pair.map((trial) => `${percent(trial.test)} %`)]);
  rows.push(
    ...run.costs.map((cost) => [
      cost.words,
      ...pair.map((trial) => (isNumber(trial.figures[cost.name]) ? costText(cost, trial.figures[cost.name]) : DASH)),
    ]),
  );
  rows.push(["time steps", ...pair.map((trial) => String(trial.time_steps))]);
  rows.push(...run.layers.map((name, layer) => [name, ...pair.map((trial) => layerWords(trial, layer))]));
  const drawn = table(["", ...pair.map(trialName)], rows, { left: 3 });
  rows.forEach((row, place) => drawn.tBodies[0].rows[place].classList.toggle("same", row[1] === row[2]));
  fill("beside", drawn);
}
