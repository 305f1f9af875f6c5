// Budgets: a slider and a field for every cost and for the accuracy, the member that they choose, and its command.

const SLIDER_STEPS = 200;

// What may be bounded: unit, whether large or small is good, and the range of the front's members.
function bounded() {
  const rows = [{ name: "accuracy", words: "accuracy at least", unit: "%", of_one: 0.01, isLeast: true }];
  rows.push(...run.costs.map((cost) => ({ ...cost, words: `${cost.words} at most`, isLeast: false })));
  return rows
    .map((row) => {
      const values = members()
        .map((member) => member.figures[row.name] / row.of_one)
        .filter(hasLogarithm);
      return { ...row, low: Math.min(...values), high: Math.max(...values) };
    })
    .filter((row) => row.high > row.low);
}

// Those that budgets choose from: what `pick` can write, or else the whole front.
function members() {
  return run.unpickable ? run.front : run.front.filter((member) => member.pickable);
}

function drawBudgets() {
  const rows = bounded().map(budgetRow);
  const clear = make("button", { type: "button", onclick: clearBudgets }, "No budgets");
  fill(
    "budgets",
    make("h3", {}, "Budgets"),
    ...(rows.length
      ? [...rows, clear]
      : [make("p", { class: "notice" }, "The front has no two members to choose from yet.")]),
  );
}

function budgetRow(row) {
  const slider = make("input", {
    type: "range",
    min: 0,
    max: SLIDER_STEPS,
    value: row.isLeast ? 0 : SLIDER_STEPS,
    "aria-label": `${row.words}, ${row.unit}`,
  });
  const field = make("input", {
    type: "number",
    min: 0,
    step: "any",
    placeholder: "any",
    "aria-label": `${row.words}, in ${row.unit}`,
  });
  const say = (bound) =>
    slider.setAttribute("aria-valuetext", bound === null ? "any" : `${tickText(bound)} ${row.unit}`);
  slider.addEventListener("input", () => {
    const bound = sliderBound(row, Number(slider.value));
    field.value = bound ?? "";
    say(bound);
    setBound(row, bound);
  });
  field.addEventListener("input", () => {
    const bound = field.value === "" || !(Number(field.value) >= 0) ? null : Number(field.value);
    slider.value = bound === null ? (row.isLeast ? 0 : SLIDER_STEPS) : sliderPlace(row, bound);
    say(bound);
    setBound(row, bound);
  });
  say(null);
  return make(
    "div",
    { class: "budget" },
    make("span", { class: "words" }, row.words),
    field,
    make("span", { class: "unit" }, row.unit),
    slider,
  );
}

// The bound where a slider stands, in the row's unit: two to three digits, never tighter than the place; null at "any".
function sliderBound(row, step) {
  if (step === (row.isLeast ? 0 : SLIDER_STEPS)) return null;
  const share = step / SLIDER_STEPS;
  if (row.isLeast) return Math.floor(10 * (row.low + share * (row.high - row.low))) / 10;
  const value = row.low * (row.high / row.low) ** share,
    size = 10 ** (2 - Math.floor(Math.log10(value)));
  return Math.ceil(value * size - 1e-9) / size;
}

function sliderPlace(row, bound) {
  const share = row.isLeast
    ? (bound - row.low) / (row.high - row.low)
    : Math.log(Math.max(bound, 1e-9) / row.low) / Math.log(row.high / row.low);
  return Math.round(SLIDER_STEPS * Math.min(1, Math.max(0, share)));
}

function setBound(row, bound) {
  const budget = { ...state.budget };
  delete budget[row.name];
  // A percentage becomes the fraction that its digits mean: 0.07 times 100 is no 7.
  if (bound !== null) budget[row.name] = row.name === "accuracy" ? bound / 100 : bound * row.of_one;
  state.budget = budget;
  state.byHand = null;
  refresh();
}

function clearBudgets() {
  state.budget = {};
  state.byHand = null;
  drawBudgets();
  refresh();
}

function chooseByHand(trial) {
  state.byHand = trial;
  refresh();
}

// The chosen member, and whether budgets or a hand chose it, or nothing fits and it is the nearest.
function choose() {
  const fitting = pickMember(members(), run.objectives, state.budget);
  state.isNearest = !state.byHand && !fitting && members().length > 0;
  state.chosen = state.byHand ?? fitting ?? nearestMember(members(), state.budget) ?? trialOf(run.baseline) ?? null;
}

function drawChosen() {
  const trial = state.chosen;
  if (!trial) return fill("chosen", make("p", { class: "notice" }, "Nothing to choose yet."));
  fill(
    "chosen",
    make("h3", {}, `${chosenBy(trial)}: ${trialName(trial)}`),
    ...missWords(trial),
    figureList(trial),
    commandLine(trial),
    layerList(trial),
  );
}

function chosenBy(trial) {
  if (state.byHand) return "Chosen by hand";
  if (state.isNearest) return "Nothing fits; nearest";
  if (!members().includes(trial)) return "So far";
  return Object.keys(state.budget).length ? "Most accurate within the budgets" : "Most accurate";
}

function missWords(trial) {
  const words = Object.keys(excess(trial, state.budget)).map((name) => {
    const bound = state.budget[name],
      value = trial.figures[name];
    if (name === "accuracy") return `accuracy by ${digits(100 * (bound - value))} points`;
    const cost = costOf(name);
    return value < Infinity
      ? `${cost.words} by ${costText(cost, value - bound)}`
      : `${cost.words}: it keeps floats and has none`;
  });
  return words.length ? [make("p", { class: "miss" }, `It misses ${words.join(", ")}.`)] : [];
}

function figureList(trial) {
  const rows = [["validation accuracy", accuracyText(trial)]];
  if (isNumber(trial.test))
    rows.push([
      "test accuracy",
      `${percent(trial.test)} % (${percent(trial.test_low)} to ${percent(trial.test_high)})`,
    ]);
  const [seeds, mean, spread] = trial.seeds ?? [];
  if (isNumber(mean))
    rows.push([
      `mean of ${count(seeds, "seed")}`,
      `${percent(mean)} %` + (isNumber(spread) ? `, spread ${percent(spread)}` : ""),
    ]);
  const baseline = trialOf(run.baseline);
  for (const cost of run.costs.filter((each) => isNumber(trial.figures[each.name]))) {
    const factor = baseline && trial !== baseline ? baseline.figures[cost.name] / trial.figures[cost.name] : NaN;
    rows.push([
      cost.words,
      costText(cost, trial.figures[cost.name]) +
        (isNumber(factor) && factor >= 1.005 ? `, 1/${digits(factor)} of the baseline` : ""),
    ]);
  }
  if (run.steps.length > 1) rows.push(["time steps", String(trial.time_steps)]);
  return make(
    "dl",
    { class: "figures" },
    rows.flatMap(([name, words]) => [make("dt", {}, name), make("dd", {}, words)]),
  );
}

function commandLine(trial) {
  if (!trial.on_front)
    return make("p", { class: "notice" }, "It is not on the front, whose members alone can be picked.");
  if (run.unpickable) return make("p", { class: "notice" }, `Nothing can be picked: ${run.unpickable}.`);
  if (!trial.pickable)
    return make("p", { class: "notice" }, "It keeps floats and so cannot be written as integers in C.");
  const words = `${run.pick} --trial ${trial.number} --out picked`;
  return make(
    "div",
    { class: "command" },
    make("code", { id: "command" }, words),
    copyButton("Copy", () => words),
  );
}

function layerList(trial) {
  return make(
    "details",
    {},
    make("summary", {}, "every layer in words"),
    make(
      "ul",
      {},
      run.layers.map((name, layer) => make("li", {}, make("b", {}, name), ` ${layerWords(trial, layer)}`)),
    ),
  );
}

function copyButton(words, text) {
  const button = make("button", { type: "button" }, words);
  button.addEventListener("click", async () => {
    try {
      await navigator.clipboard.writeText(text());
    } catch {
      copyBySelection(text()); // where the browser keeps its clipboard from files
    }
    button.textContent = "Copied";
    setTimeout(() => (button.textContent = words), 1500);
  });
  return button;
}

function copyBySelection(text) {
  const area = make("textarea", {}, text);
  document.body.append(area);
  area.select();
  document.execCommand("copy");
  area.remove();
}
