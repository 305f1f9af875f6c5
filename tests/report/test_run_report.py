"""The page report.md."""

from __future__ import annotations

from examples import example_run

from spquant_search.report.class_words import classes_sentence
from spquant_search.report.run_report import report_markdown
from spquant_search.runs.finals import TestUse
from spquant_search.runs.results import Outcome

ENDINGS = {Outcome.COMPLETE: 3, Outcome.STOPPED: 1, Outcome.DIVERGED: 1}


def test_report_holds_what_was_searched_measured_and_run():
    run = example_run(
        command="spquant-search --space spaces/tiny.yaml --seed 3",
        environment={"processor": "two|cores", "torch": "2.13.0"},
    )
    text = report_markdown(run)
    for words in (
        "`spaces/tiny.yaml`",
        "fashion-events (simulated)",
        "2,000 validation samples",
        "](front.png)",
        "| 2* | 86.4 | 84.8..87.9 | 10.0 | 1/10.0 | 25.0 M | 1/4.00 | 844 | 3A | g1s2 |",
        "Hypervolume 0.5370 of at most 0.9",
        *(f"| {outcome.value} | {count} |" for outcome, count in ENDINGS.items()),
        "At their own configuration they were trained for 7 epochs",
        "1:05 of wall clock",
        "100 MFLOPs",
        "    spquant-search pick tiny --knee --out picked",
        "    spquant-search --space spaces/tiny.yaml --seed 3",
        "| processor | two\\|cores |",
        "### Trial 2 (tpe): 86.4 %, 10.0 KiB, 25.0 MFLOPs",
        "| conv2 | 4 | 16 | 0.8 | 0 |",
        "95 % interval (Wilson) of the highest val, 90.0: 88.6 to 91.3",
    ):
        assert words in text


def test_report_says_on_how_many_test_samples_the_front_was_tested():
    use = TestUse(members=1)
    assert "(500 samples)" in report_markdown(example_run(test_accuracy={2: 0.8}, test_samples=500, test_use=use))


def test_names_with_spaces_are_quoted_in_commands():
    text = report_markdown(example_run(run="my run", source="my space.yaml"))
    assert "spquant-search pick 'my run' --knee" in text
    assert "spquant-search --space 'my space.yaml' --run 'my run'" in text


def test_report_names_the_classes_by_their_numbers():
    assert "\nClasses: 10, called by their numbers from 0.\n" in report_markdown(example_run())
    named = ("ant", "class2", "class10", "*bee*\n")
    assert "\nClasses by their numbers: 0 ant, 1 class2, 2 class10, 3 \\*bee\\*.\n" in report_markdown(
        example_run(classes=named)
    )
    most = classes_sentence([f"name {number}" for number in range(101)])
    assert most.startswith("Classes by their numbers: 0 name 0, 1 name 1, ")
    assert most.endswith(", 100 name 100.")
    many = classes_sentence([f"name {number}" for number in range(1000)])
    assert many.endswith(", 19 name 19, ..., 999 name 999 (all of them are in front.json).")
