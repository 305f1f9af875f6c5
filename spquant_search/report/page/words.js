// Figures and configurations as people read them.

const DASH = "-";
const isNumber = (value) => typeof value === "number" && Number.isFinite(value);
const hasLogarithm = (value) => isNumber(value) && value > 0;

function percent(fraction) {
  return isNumber(fraction) ? (100 * fraction).toFixed(1) : DASH;
}

function grouped(value, decimals) {
  return value.toLocaleString("en-US", { minimumFractionDigits: decimals, maximumFractionDigits: decimals });
}

// Three digits, or all of those before the point.
function digits(value) {
  if (!isNumber(value)) return DASH;
  const size = Math.abs(value);
  return grouped(value, size >= 99.95 ? 0 : size >= 9.995 ? 1 : size >= 0.9995 || size === 0 ? 2 : 3);
}

function costNumber(cost, value) {
  return isNumber(value) ? digits(value / cost.of_one) : DASH;
}

function costText(cost, value) {
  return isNumber(value) ? `${costNumber(cost, value)} ${cost.unit}` : "none: it keeps floats";
}

function duration(seconds) {
  const total = Math.round(seconds),
    two = (value) => String(value).padStart(2, "0");
  const [hours, minutes] = [Math.floor(total / 3600), Math.floor(total / 60) % 60];
  return hours ? `${hours}:${two(minutes)}:${two(total % 60)}` : `${minutes}:${two(total % 60)}`;
}

function count(number, word) {
  return `${grouped(number, 0)} ${word}${number === 1 ? "" : "s"}`;
}

function bitsText(bits) {
  return bits === 32 ? "F" : String(bits);
}

function levelsText(levels) {
  return levels === null ? "" : levels === 0 ? "F" : String(levels);
}

// What a layer of a trial is, in words: precision first, then what sparsity it has.
function layerWords(trial, place) {
  const { bits, levels, mass, skip, open } = trial.layers;
  const words = [bits[place] === 32 ? "float weights" : `${count(bits[place], "bit")} a weight`];
  if (levels[place] !== null) words.push(levels[place] === 0 ? "float membranes" : count(levels[place], "level"));
  if (mass[place] < 1) {
    words.push(isNumber(open?.[place]) ? `${percent(open[place])} % of channels open` : `gate of mass ${mass[place]}`);
  }
  if (skip[place] !== null) words.push(`skips below ${skip[place]}`);
  return words.join(", ");
}

function trialName(trial) {
  return trial.mark ? `trial ${trial.number}, ${trial.mark}` : `trial ${trial.number}`;
}

function accuracyText(trial) {
  const interval = isNumber(trial.low) ? ` (${percent(trial.low)} to ${percent(trial.high)})` : "";
  return `${percent(trial.accuracy)} %${interval}`;
}

function stepsText(steps) {
  return count(steps, "time step");
}
