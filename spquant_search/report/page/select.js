// The choice of a member within budgets, by the rules of `spquant-search pick`, with which tests compare it.
//
// A member has `figures`, by name: "accuracy" and costs. A budget bounds them: the accuracy from below, costs from
// above. Infinity: a network that keeps floats has no such cost, and fits no bound of it. NaN: not measured, fits all.

function figuresOf(trial, costs) {
  const missing = (cost) => (cost.of_floats ? NaN : Infinity);
  return {
    accuracy: trial.accuracy ?? NaN,
    ...Object.fromEntries(costs.map((cost, place) => [cost.name, trial.costs[place] ?? missing(cost)])),
  };
}

function objectivesOf(costs) {
  return costs.filter((cost) => cost.is_objective).map((cost) => cost.name);
}

// The members of the front in the order of its table, by the objectives and then by number: of equals the first wins.
function frontOf(trials, objectives) {
  const compare = (one, other) =>
    objectives.map((name) => one.figures[name] - other.figures[name]).find((difference) => difference) ??
    one.number - other.number;
  return trials.filter((trial) => trial.on_front).sort(compare);
}

function excess(member, budget) {
  const found = {};
  for (const [name, bound] of Object.entries(budget)) {
    const beyond = member.figures[name] - bound;
    const share = (name === "accuracy" ? -beyond : beyond) / Math.max(bound, 1e-12);
    if (share > 0) found[name] = share;
  }
  return found;
}

function fits(member, budget) {
  return Object.keys(excess(member, budget)).length === 0;
}

// The most accurate member within the budget, of equal ones the one that costs less; null where none fits.
function pickMember(members, objectives, budget) {
  const fitting = members.filter((member) => fits(member, budget));
  return fitting.reduce((best, member) => (best && !isBetter(member, best, objectives) ? best : member), null);
}

function isBetter(member, other, objectives) {
  const accuracies = [member.figures.accuracy, other.figures.accuracy];
  if (accuracies[0] !== accuracies[1]) return accuracies[0] > accuracies[1];
  const name = objectives.find((cost) => member.figures[cost] !== other.figures[cost]);
  return name !== undefined && member.figures[name] < other.figures[name];
}

// The member that misses least of the bounds, added up.
function nearestMember(members, budget) {
  const missed = (member) => Object.values(excess(member, budget)).reduce((sum, share) => sum + share, 0);
  return members.reduce((best, member) => (best && missed(best) <= missed(member) ? best : member), null);
}
