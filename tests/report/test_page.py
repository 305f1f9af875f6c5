"""The page report.html: its document, and what a browser is given."""

from __future__ import annotations

import base64
import hashlib
import json
import random
import shutil
import subprocess
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest
from examples import config, example_run, trial
from pages import LAYERS, hostile_page, random_page

from spquant_search.report import page as pages
from spquant_search.report.data_files import front_document
from spquant_search.report.page import page_html, page_script
from spquant_search.report.page_data import PageSource, page_document
from spquant_search.report.run_summary import RunSummary
from spquant_search.runs import selection
from spquant_search.runs.results import Outcome
from spquant_search.space.objectives import COSTS
from spquant_search.space.reading import parse_space


class Elements(HTMLParser):
    """The text in every element, by its tag, and the attributes of all."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.texts: dict[str, list[str]] = {}
        self.attributes: list[tuple[str, str, str]] = []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.open.append(tag)
        self.texts.setdefault(tag, []).append("")
        self.attributes += [(tag, name, value or "") for name, value in attrs]

    def handle_endtag(self, tag):
        while self.open and self.open.pop() != tag:
            pass

    def handle_data(self, data):
        if self.open:
            self.texts[self.open[-1]][-1] += data


@pytest.fixture(scope="module")
def source() -> PageSource:
    return random_page(60)


# ---------------------------------------------------------------- the document


def test_figures_are_those_of_the_other_reports(source):
    document, front = page_document(source), front_document(source.summary)
    costs = [cost["name"] for cost in document["costs"]]
    assert costs == list(COSTS)
    members = {trial["number"]: trial for trial in document["trials"] if trial["on_front"]}
    assert members.keys() == {member["number"] for member in front["members"]}
    for member in front["members"]:
        shown = members[member["number"]]
        assert shown["accuracy"] == member["accuracy"]
        assert [shown["low"], shown["high"]] == member["accuracy_interval"]
        assert shown["test"] == member["test_accuracy"]
        assert dict(zip(costs, shown["costs"], strict=True)) == {name: member[name] for name in costs}
        assert shown["layers"]["bits"] == [layer["weight_bits"] for layer in member["config"].values()]
    assert document["volume"][-1][2] == pytest.approx(front["hypervolume"])


def test_the_volume_only_grows_and_ends_as_the_fronts(source):
    volumes = [volume for _, _, volume in page_document(source)["volume"]]
    assert volumes == sorted(volumes)
    bounded = replace(source.summary, budget=selection.Budget(max_memory_bytes=20_000))
    last = page_document(PageSource(summary=bounded))["volume"][-1][2]
    assert last == pytest.approx(bounded.hypervolume)


def test_bytes_of_layers_add_up(source):
    for trial_ in page_document(source)["trials"]:
        if "weight_bytes" in trial_["layers"] and trial_["number"]:
            columns = [trial_["layers"][name] for name in ("weight_bytes", "membrane_bytes", "other_bytes")]
            assert [sum(column) for column in columns] == list(trial_["parts"])
            assert len(columns[0]) == len(LAYERS)


def test_shapes_of_another_network_are_left_out(source):
    """Those of a network of the user's, who has changed it since the search."""
    changed = replace(source, shapes=(*LAYERS[:-1], replace(LAYERS[-1], name="other")))
    document = page_document(changed)
    assert document["shapes"] == []
    assert not any("weight_bytes" in trial_["layers"] for trial_ in document["trials"])


def test_presets_and_references_are_called_by_their_names():
    text = """\
data: {name: fashion-events}
time_steps: 4
model: {network: vgg9}
layers: {all: {weight_bits: [2, 4], membrane_levels: [3, 16], channel_mass: [0.85, 1], skip_below: [null, 0]}}
search: {references: [{preset: quant-snn}, {weight_bits: 4, membrane_levels: 3}]}
"""
    source = random_page(6)
    uniform = replace(source.summary.results[1], number=7)
    results = (*source.summary.results, uniform)
    named = replace(source, summary=replace(source.summary, results=results), space=parse_space(text, source="s.yaml"))
    marks = {trial_["number"]: trial_["mark"] for trial_ in page_document(named)["trials"]}
    assert marks[0] == "float baseline"
    assert (marks[1], marks[2]) == ("preset quant-snn", "reference 4 bit / 3 levels")
    assert marks[3] == ""


@pytest.mark.parametrize(
    "results",
    [
        (trial(0, 0.9, 100, 50, origin="baseline", of=config("000", "0 0")),),
        (trial(0, origin="baseline", of=config("000", "0 0"), outcome=Outcome.FAILED, epochs=0),),
        (
            trial(0, 0.9, 100, 50, origin="baseline", of=config("000", "0 0")),
            trial(1, outcome=Outcome.DIVERGED, epochs=0),
        ),
    ],
)
def test_a_page_of_next_to_nothing(results):
    html = page_html(PageSource(summary=example_run(results=results)))
    document = json.loads(Elements(html).texts["script"][0])
    assert len(document["trials"]) == len(results)
    assert document["unpickable"]


# ---------------------------------------------------------------- the file


@pytest.mark.parametrize("made", [hostile_page, lambda: random_page(5)])
def test_no_text_is_read_as_markup(made):
    source = made()
    html = page_html(source)
    found = Elements(html)
    data, script = found.texts["script"]
    assert json.loads(data) == json.loads(json.dumps(page_document(source)))
    assert script == page_script()
    assert "img" not in found.texts
    assert len(found.texts["title"]) == 1
    assert "\u2028" not in html
    assert not [name for _, name, _ in found.attributes if name.startswith("on")]


def test_a_browser_may_run_the_pages_script_and_load_nothing(source):
    html = page_html(source)
    found = Elements(html)
    (policy,) = [value for _, name, value in found.attributes if name == "content" and "default-src" in value]
    checksum = base64.b64encode(hashlib.sha256(found.texts["script"][1].encode()).digest()).decode()
    directives = dict(part.strip().split(" ", 1) for part in policy.split(";"))
    assert directives["default-src"] == "'none'"
    assert directives["script-src"] == f"'sha256-{checksum}'"
    assert "unsafe-eval" not in policy
    assert not [name for _, name, _ in found.attributes if name in ("src", "href")]
    assert html.count("://") == html.count("http://www.w3.org/2000/svg") == 1
    assert "@import" not in html
    assert "url(" not in html


def test_the_script_makes_no_code_and_no_markup_of_strings():
    for word in ("eval(", "Function(", "innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "fetch("):
        assert word not in page_script()


def test_all_parts_of_the_script_are_in_it():
    folder = Path(pages.__file__).parent / "page"
    assert sorted(pages.SCRIPTS) == sorted(path.name for path in folder.glob("*.js"))


def test_equal_results_give_equal_pages():
    assert page_html(random_page(30)) == page_html(random_page(30))
    assert page_html(random_page(30)) != page_html(random_page(30, seed=1))


def test_a_page_of_500_trials_is_small():
    assert len(page_html(random_page(500)).encode()) < 2_000_000


# ---------------------------------------------------------------- the choice of a member

CHOOSE = """
const cases = JSON.parse(require("fs").readFileSync(0, "utf8"));
const chosen = cases.map(({ document, budgets }) => {
  const objectives = objectivesOf(document.costs);
  for (const trial of document.trials) trial.figures = figuresOf(trial, document.costs);
  const members = frontOf(document.trials, objectives).filter((member) => member.pickable);
  const number = (member) => member?.number ?? null;
  return budgets.map((budget) => [pickMember(members, objectives, budget), nearestMember(members, budget)].map(number));
});
console.log(JSON.stringify(chosen));
"""
PAIRS = [("memory_bytes", "effective_flops"), ("flash_bytes", "ram_bytes"), ("energy_uj",), ("synaptic_ops",)]


def random_front(chance: random.Random) -> RunSummary:
    """A few trials, many of them equal in some figure, some with floats, some not measured in all costs."""
    results = []
    for number in range(chance.randint(2, 9)):
        accuracy, kib = (
            chance.choice([0.5, 0.6, 0.7, chance.random()]),
            chance.choice([10, 20, 1 + 50 * chance.random()]),
        )
        of = config(chance.choice(["844", "444", "840", "000"]), chance.choice(["3 16", "0 3"]))
        made = trial(number, accuracy, kib, chance.choice([10, 20, 50 * chance.random() + 1]), of=of)
        last = replace(made.epochs[-1], energy_uj=chance.choice([None, made.energy_uj, chance.random()]))
        results.append(replace(made, epochs=(*made.epochs[:-1], last)))
    return example_run(results=tuple(results), costs=chance.choice(PAIRS))


def random_budget(summary: RunSummary, chance: random.Random) -> selection.Budget:
    """Bounds at figures of trials, next to them, and anywhere."""
    bounds = {}
    for name in ("accuracy", *COSTS):
        known = [value for result in summary.results if (value := getattr(result, name)) is not None and value == value]
        if known and chance.random() < 0.35:
            near = chance.choice(known)
            bounds[selection.bound_field(name)] = chance.choice(
                [near, near * (1 + 1e-15), near * chance.random(), near * 2]
            )
    return selection.Budget(**bounds)


def test_the_page_chooses_as_pick_does():
    node = shutil.which("node")
    if node is None:
        pytest.skip("Node.js is not installed")
    chance, cases, expected = random.Random(5), [], []
    for _ in range(1000):
        summary = random_front(chance)
        budgets = [random_budget(summary, chance) for _ in range(2)]
        document, members = page_document(PageSource(summary=summary)), summary.pickable
        cases.append({"document": document, "budgets": [budget.as_dict() for budget in budgets]})
        picked = [selection.pick(members, summary.costs, budget) for budget in budgets]
        near = [selection.nearest(members, budget) if members else None for budget in budgets]
        expected.append([[each and each.number for each in pair] for pair in zip(picked, near, strict=True)])
    script = (Path(pages.__file__).parent / "page" / "select.js").read_text(encoding="utf-8")
    done = subprocess.run(
        [node, "-e", script + CHOOSE], input=json.dumps(cases), capture_output=True, text=True, check=True
    )
    assert json.loads(done.stdout) == expected
    assert sum(pair[0] is not None for case in expected for pair in case) > 300  # there was something to choose
