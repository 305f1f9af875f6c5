// All trials as a table that can be sorted and copied, and the same saved as CSV or JSON.

function tableColumns() {
  const text = (words, of, raw = of) => ({ words, of, raw, isText: true });
  const number = (words, of, raw) => ({ words, of, raw, isText: false });
  const layer = (column, words) => (trial) =>
    run.layers
      .map((_, place) => words(trial.layers[column][place]))
      .join(" ")
      .trim();
  return [
    number(
      "trial",
      (trial) => String(trial.number),
      (trial) => trial.number,
    ),
    text("what", (trial) => trial.mark || trial.origin),
    number(
      "accuracy, %",
      (trial) => percent(trial.accuracy),
      (trial) => trial.accuracy,
    ),
    number(
      "interval",
      (trial) => (isNumber(trial.low) ? `${percent(trial.low)} to ${percent(trial.high)}` : DASH),
      (trial) => trial.low,
    ),
    number(
      "test, %",
      (trial) => percent(trial.test),
      (trial) => trial.test,
    ),
    ...run.costs.map((cost) =>
      number(
        `${cost.words}, ${cost.unit}`,
        (trial) => costNumber(cost, trial.figures[cost.name]),
        (trial) => trial.figures[cost.name],
      ),
    ),
    number(
      "time steps",
      (trial) => String(trial.time_steps),
      (trial) => trial.time_steps,
    ),
    text("weight bits", layer("bits", bitsText)),
    text("membrane levels", layer("levels", levelsText)),
    number(
      "seconds",
      (trial) => digits(trial.seconds),
      (trial) => trial.seconds,
    ),
    text("how it ended", (trial) => trial.ended),
  ].filter((column) => column.isText || run.trials.some((trial) => isNumber(column.raw(trial))));
}

function shownRows() {
  const { column, isDown } = state.sorted,
    rows = run.trials.filter((trial) => !state.frontOnly || trial.on_front);
  const raw = tableColumns()[column].raw,
    sign = isDown ? -1 : 1;
  const isMissing = (value) => value === null || value === undefined || Number.isNaN(value) || value === Infinity;
  return rows.sort((one, other) => {
    const [left, right] = [raw(one), raw(other)];
    if (isMissing(left) || isMissing(right)) return isMissing(left) - isMissing(right); // what is unknown stands last
    return sign * (left < right ? -1 : left > right ? 1 : 0) || one.number - other.number;
  });
}

function drawTableControls() {
  fill(
    "table-controls",
    checkbox("the front alone", state.frontOnly, (isOn) => {
      state.frontOnly = isOn;
      drawTable();
    }),
    copyButton("Copy the table", tableText),
    saveButton("Save CSV", "text/csv", "csv", csvText),
    saveButton("Save JSON", "application/json", "json", () => byId("document").textContent),
  );
}

function drawTable() {
  const columns = tableColumns();
  const heads = columns.map(({ words, isText }, place) => {
    const isSorted = state.sorted.column === place;
    const button = make(
      "button",
      { type: "button", onclick: () => sortBy(place) },
      words,
      make("span", { "aria-hidden": "true" }, isSorted ? (state.sorted.isDown ? " ▾" : " ▴") : ""),
    );
    return make(
      "th",
      {
        scope: "col",
        class: isText ? "left" : null,
        "aria-sort": isSorted ? (state.sorted.isDown ? "descending" : "ascending") : null,
      },
      button,
    );
  });
  const rows = shownRows().map((trial) =>
    make(
      "tr",
      { class: trial.on_front ? "member" : null },
      columns.map(({ of, isText }, place) =>
        make(place ? "td" : "th", { scope: place ? null : "row", class: isText ? "left" : null }, of(trial)),
      ),
    ),
  );
  fill("table", make("table", {}, make("thead", {}, make("tr", {}, heads)), make("tbody", {}, rows)));
}

function sortBy(column) {
  state.sorted = { column, isDown: state.sorted.column === column ? !state.sorted.isDown : false };
  drawTable();
  byId("table").querySelectorAll("thead button")[column].focus();
}

function tableText() {
  const columns = tableColumns();
  return [columns.map(({ words }) => words), ...shownRows().map((trial) => columns.map(({ of }) => of(trial)))]
    .map((row) => row.join("\t"))
    .join("\n");
}

// Every trial with exact figures; columns are called as in results.csv.
function csvText() {
  const names = ["number", "origin", "outcome", "reason", "accuracy", "accuracy_low", "accuracy_high", "test_accuracy"];
  const layers = { weight_bits: "bits", membrane_levels: "levels", channel_mass: "mass", skip_below: "skip" };
  const places = run.layers.flatMap((name, place) =>
    Object.entries(layers).map(([parameter, column]) => [`${name}.${parameter}`, column, place]),
  );
  const head = [
    ...names,
    ...run.costs.map(({ name }) => name),
    "seconds",
    "seed",
    "time_steps",
    ...places.map(([address]) => address),
  ];
  const rows = run.trials.map((trial) => [
    ...[trial.number, trial.origin, trial.outcome, trial.ended, trial.accuracy, trial.low, trial.high, trial.test],
    ...trial.costs,
    ...[trial.seconds, trial.seed, trial.time_steps],
    ...places.map(([, column, place]) => trial.layers[column][place]),
  ]);
  return [head, ...rows].map((row) => row.map(csvCell).join(",")).join("\n") + "\n";
}

function csvCell(value) {
  const text = value === null ? "" : String(value);
  return /[",\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
}

function saveButton(words, type, ending, content) {
  return make(
    "button",
    {
      type: "button",
      onclick: () => {
        const link = make("a", {
          href: URL.createObjectURL(new Blob([content()], { type })),
          download: `${run.run.replace(/[^\w.-]+/g, "-")}.${ending}`,
        });
        link.click();
        setTimeout(() => URL.revokeObjectURL(link.href), 10000);
      },
    },
    words,
  );
}
