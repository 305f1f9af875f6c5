"""The page report.md."""

from __future__ import annotations

from examples import example_run

from spquant_search.report import run_report


def test_report_says_what_was_searched_and_counted():
    run = example_run(
        command="spquant-search --space spaces/tiny.yaml --seed 3",
        environment={"processor": "two|cores", "torch": "2.13.0"},
    )
    text = run_report.report_markdown(run)
    for words in (
        "as `spaces/tiny.yaml` allows",
        "fashion-events (simulated)",
        "2,000 validation samples;\nthe test split was not used.",
        "![accuracy against memory of every trial that left weights](front.png)",
        "| 2 | 86.4 | 10.0 | 1/10.0 | 25.0 M | 1/4.00 | 844 | 3A | g1s2 |",
        "Hypervolume 0.5370 of at most 0.9 (reference point: accuracy 10.0 %, 110.0 KiB, 110 MFLOPs",
        "| trained to its last epoch | 3 |\n| stopped early | 1 |\n| the loss became infinite or not a number | 1 |",
        "5 trials besides the float baseline, 7 epochs, 1:05 of wall clock",
        "FLOPs: 2 per MAC",
        "The network's dense operations: 100 MFLOPs.",
        "    spquant-search pick tiny --knee --out picked",
        "    spquant-search --space spaces/tiny.yaml --seed 3",
        "| processor | two\\|cores |",
        "### Trial 2 (tpe): 86.4 %, 10.0 KiB, 25.0 MFLOPs",
        "| conv2 | 4 | 16 | 0.8 | 0 |",
    ):
        assert words in text
    # sqrt(0.9 * 0.1 / 2000) = 0.67 points
    assert "0.7 points" in text


def test_report_of_a_run_without_results_and_with_a_test_split():
    assert "No trial has completed yet." in run_report.report_markdown(example_run(results=()))
    text = run_report.report_markdown(example_run(test_accuracy={2: 0.8}, test_samples=500))
    assert "the test split (500 samples) was used once, after the search, for the front alone." in text


def test_names_with_spaces_are_quoted_in_commands():
    text = run_report.report_markdown(example_run(run="my run", source="my space.yaml"))
    assert "spquant-search pick 'my run' --knee" in text
    assert "spquant-search --space 'my space.yaml' --run 'my run'" in text
