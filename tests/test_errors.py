"""Problems and the errors that hold them."""

from __future__ import annotations

from spquant_search.errors import OptionError, Problem, SpaceError


def test_a_problem_says_its_key_and_line() -> None:
    assert str(Problem("train.epochs", "must be 1 or more; got 0", line=7)) == (
        "train.epochs (line 7): must be 1 or more; got 0"
    )
    assert str(Problem("train.epochs", "is missing")) == "train.epochs: is missing"
    assert str(Problem("", "is not valid YAML")) == "is not valid YAML"


def test_a_problem_moves_below_a_section() -> None:
    assert Problem("root", "is no folder", line=3).below("data") == Problem("data.root", "is no folder", line=3)


def test_all_problems_are_told_at_once() -> None:
    problems = (Problem("a", "x"), Problem("b", "y"))
    assert str(OptionError(problems)) == "a: x\nb: y"
    error = SpaceError("s.yaml", problems)
    assert str(error) == "s.yaml: a: x\ns.yaml: b: y"
    assert error.problems == problems
