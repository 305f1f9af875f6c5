// What the page knows, what is chosen in it, and the order in which it is drawn.

const run = readRun();
const state = {
  budget: {}, // bounds by name
  byHand: null, // the trial that was clicked
  chosen: null, // what budgets or a hand chose
  isNearest: false, // nothing fits
  other: null, // beside the chosen one
  along: run.objectives[0],
  colour: run.objectives[1] ?? "",
  others: true,
  bars: true,
  volumeBy: "trials",
  frontOnly: run.front.length > 0,
  sorted: { column: 0, isDown: false },
};
const view = { front: null, redraw: [] };

function readRun() {
  const found = JSON.parse(byId("document").textContent);
  for (const trial of found.trials) trial.figures = figuresOf(trial, found.costs);
  found.objectives = objectivesOf(found.costs);
  found.byNumber = new Map(found.trials.map((trial) => [trial.number, trial]));
  found.front = frontOf(found.trials, found.objectives);
  return found;
}

function trialOf(number) {
  return run.byNumber.get(number);
}

function costOf(name) {
  return run.costs.find((cost) => cost.name === name);
}

// After another choice or other budgets.
function refresh() {
  choose();
  markFront();
  drawChosen();
  markMap();
  drawBars();
  drawBeside();
}

function drawHead() {
  document.title = `${run.run}: accuracy against cost`;
  fill("run-name", run.run);
  fill("subject", `${run.network} on ${run.data}`);
  const tried = run.trials.length - (run.baseline === null ? 0 : 1);
  const facts = [
    ["trials", grouped(tried, 0)],
    ["on the front", grouped(run.front.length, 0)],
  ];
  const best = Math.max(...run.front.map((trial) => trial.accuracy));
  if (isNumber(best)) facts.push(["most accurate", `${percent(best)} %`]);
  const baseline = trialOf(run.baseline);
  if (baseline) facts.push(["float baseline", `${percent(baseline.accuracy)} %`]);
  fill(
    "facts",
    facts.map(([name, words]) => make("div", {}, make("dt", {}, name), make("dd", {}, words))),
  );
  const notes = [
    ...run.sentences,
    run.running ? "The search was working on it when this was written: reload the page to see more." : "",
  ];
  byId("facts").after(make("p", { class: "small" }, notes.filter(Boolean).join(" ")));
}

function drawData() {
  const numbered = run.classes.map((name, label) => (name === String(label) ? name : `${label} ${name}`));
  fill(
    "data",
    make("p", {}, `${run.data}.`),
    make("p", {}, `${count(run.classes.length, "class").replace("classs", "classes")}: ${numbered.join(", ")}.`),
    make("p", {}, `Networks see ${run.steps.map(String).join(" or ")} time steps.`),
  );
}

function drawAll() {
  drawHead();
  frontControls();
  drawBudgets();
  drawMap();
  drawBesideControls();
  drawSensitivity();
  drawSearch();
  drawTableControls();
  drawTable();
  drawData();
  fill("made", table(["", ""], run.made, { left: 2 }));
  redrawCharts();
  refresh();
}

function redrawCharts() {
  drawFront();
  for (const draw of view.redraw) draw();
}

let width = document.documentElement.clientWidth;
window.addEventListener("resize", () => {
  if (width === document.documentElement.clientWidth) return;
  width = document.documentElement.clientWidth;
  hideTip();
  redrawCharts();
});
document.addEventListener("keydown", (event) => event.key === "Escape" && hideTip());
drawAll();
