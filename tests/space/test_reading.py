"""Space files: every rule's message to the letter, grids by hand, round trips by property."""

from __future__ import annotations

import re
from dataclasses import fields
from pathlib import Path

import pytest
import yaml
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from pydantic import TypeAdapter
from shapes import layer

from spquant_search.errors import SpaceError, UserError
from spquant_search.space.address import Address
from spquant_search.space.binding import bind
from spquant_search.space.configuration import LayerPrecision, NetworkConfig
from spquant_search.space.grid import membrane_grid
from spquant_search.space.messages import suggestion
from spquant_search.space.reading import frozen_space, parse_space, read_space
from spquant_search.space.schema import Augmentation, Constraints, Final, Search, SpaceFile, Supernet, Training
from spquant_search.space.search_space import SearchSpace

TINY = Path(__file__).parents[2] / "spaces" / "tiny.yaml"
BASE = """\
data:
  name: fashion-events
time_steps: 3
model:
  network: vgg9
layers:
  all:
    weight_bits: [2, 4]
train:
  epochs: 2
"""
SHAPES = (
    layer(name="conv1", has_membrane=True, can_gate=False),
    layer(name="conv2", has_membrane=True, can_gate=True),
    layer(name="conv8", has_membrane=True, can_gate=True),
    layer(name="readout", has_membrane=False, can_gate=False),
)


def parse(text: str, *overrides: str) -> SpaceFile:
    return parse_space(text, source="s.yaml", overrides=overrides)


def with_layers(*lines: str) -> str:
    """BASE with other lines below ``layers.all``, the first of them line 8."""
    return BASE.replace("    weight_bits: [2, 4]\n", "".join(f"    {line}\n" for line in lines))


def bound(text: str) -> SearchSpace:
    return bind(parse(text), SHAPES, source="s.yaml")


def problems_of(text: str, *overrides: str) -> tuple[str, ...]:
    with pytest.raises(SpaceError) as caught:
        parse(text, *overrides)
    assert str(caught.value) == "\n".join(f"s.yaml: {problem}" for problem in caught.value.problems)
    return tuple(str(problem) for problem in caught.value.problems)


def problems_bound(text: str) -> tuple[str, ...]:
    with pytest.raises(SpaceError) as caught:
        bound(text)
    return tuple(str(problem) for problem in caught.value.problems)


# ---------------------------------------------------------------- messages, one rule each

YES_NO = "must be a number, not yes/no (YAML reads yes, no, on and off as true and false)"
TRAIN_KEYS = (
    "epochs, learning_rate, baseline_epochs, baseline_learning_rate, batch_size, optimizer, momentum, nesterov, "
    "weight_decay, schedule, warm_up, max_grad_norm, label_smoothing, tet_lambda, tet_mean, distillation, "
    "gate_loss_weight, precision, augment"
)
RANGE = "a range is written {from: 0.5, to: 1, step: 0.05}"
RANGE_ORDER = "a range needs from <= to and a step above 0"


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ("weight_bits: [2, 5]", "weight_bits.1 (line 8): must be one of 1, 2, 3, 4, 8, 32; got 5"),
        ("weight_bits: 5", "weight_bits (line 8): must be one of 1, 2, 3, 4, 8, 32; got 5"),
        ("weight_bits: no", f"weight_bits (line 8): {YES_NO}; got False"),
        ("weight_bits: [4, yes]", f"weight_bits.1 (line 8): {YES_NO}; got True"),
        ("weight_bits: []", "weight_bits (line 8): must name at least one choice; got []"),
        ("weight_bits: [2, 2]", "weight_bits (line 8): names a choice twice; got [2, 2]"),
        ("weight_bits: {from: 1}", "weight_bits (line 8): must be a list; got {'from': 1}"),
        (
            "weight_bits: two",
            "weight_bits (line 8): must be a valid integer, unable to parse string as an integer; got 'two'",
        ),
        ("membrane_levels: 1", "membrane_levels (line 8): must be 0 (float) or from 2 to 256 levels; got 1"),
        ("membrane_levels: [3, 257]", "membrane_levels.1 (line 8): must be 0 (float) or from 2 to 256 levels; got 257"),
        (
            "membrane_levels: 3.5",
            "membrane_levels (line 8): must be a valid integer, got a number with a fractional part; got 3.5",
        ),
        ("channel_mass: [0.5, 1.5]", "channel_mass.1 (line 8): must be less than or equal to 1; got 1.5"),
        ("channel_mass: 0", "channel_mass (line 8): must be greater than 0; got 0"),
        ("channel_mass: .nan", "channel_mass (line 8): must be a finite number; got nan"),
        ("channel_mass: off", f"channel_mass (line 8): {YES_NO}; got False"),
        ("channel_mass: {from: 0.5}", f"channel_mass (line 8): {RANGE}; got {{'from': 0.5}}"),
        (
            "channel_mass: {from: a, to: 1, step: 1}",
            f"channel_mass (line 8): {RANGE}; got {{'from': 'a', 'to': 1, 'step': 1}}",
        ),
        (
            "channel_mass: {from: 0.5, to: 0.4, step: 0.1}",
            f"channel_mass (line 8): {RANGE_ORDER}; got {{'from': 0.5, 'to': 0.4, 'step': 0.1}}",
        ),
        (
            "channel_mass: {from: 0.5, to: 1, step: 0}",
            f"channel_mass (line 8): {RANGE_ORDER}; got {{'from': 0.5, 'to': 1, 'step': 0}}",
        ),
        (
            "channel_mass: {from: 0.5, to: 1, step: 1.0e-12}",
            "channel_mass (line 8): a range may have at most 101 values; take a larger step; "
            "got {'from': 0.5, 'to': 1, 'step': 1e-12}",
        ),
        (
            "channel_mass: {from: -1.0e+308, to: 1.0e+308, step: 1}",
            "channel_mass (line 8): a range may have at most 101 values; take a larger step; "
            "got {'from': -1e+308, 'to': 1e+308, 'step': 1}",
        ),
        (
            "channel_mass: {from: 0.5, to: .inf, step: 1}",
            "channel_mass (line 8): a range needs finite numbers; got {'from': 0.5, 'to': inf, 'step': 1}",
        ),
        (
            "channel_mass: {from: .nan, to: 1, step: 1}",
            "channel_mass (line 8): a range needs finite numbers; got {'from': nan, 'to': 1, 'step': 1}",
        ),
        (
            "channel_mass: {from: no, to: yes, step: 1}",
            f"channel_mass (line 8): {YES_NO}; got {{'from': False, 'to': True, 'step': 1}}",
        ),
        (
            f"membrane_levels: [{', '.join(map(str, range(2, 104)))}]",
            "membrane_levels (line 8): may have at most 101 choices, not 102; got "
            + repr(list(range(2, 104)))[:200]
            + "...",
        ),
        ("skip_below: [none, 0.5]", "skip_below.1 (line 8): must be less than or equal to 0; got 0.5"),
        ("skip_below: no", f"skip_below (line 8): {YES_NO}; got False"),
        ("skip_below: [none, null]", "skip_below (line 8): names a choice twice; got ['none', None]"),
        (
            "weight_bit: 4",
            "weight_bit (line 8): unknown key; did you mean 'weight_bits'? "
            "Known here: weight_bits, membrane_levels, channel_mass, skip_below",
        ),
    ],
)
def test_what_is_wrong_with_a_layers_choices(line, problem):
    assert problems_of(with_layers(line)) == (f"layers.all.{problem}",)


@pytest.mark.parametrize(
    ("old", "new", "problem"),
    [
        (
            "epochs",
            "epoch",
            f"train.epoch (line 10): unknown key; did you mean 'epochs'? Known here: {TRAIN_KEYS}",
        ),
        ("epochs", "zzz", f"train.zzz (line 10): unknown key. Known here: {TRAIN_KEYS}"),
        (
            "train:",
            "trian:",
            "trian (line 9): unknown key; did you mean 'train'? "
            "Known here: data, time_steps, model, layers, neuron, train, supernet, final, constraints, search",
        ),
        ("epochs: 2", "epochs: 0", "train.epochs (line 10): must be greater than or equal to 1; got 0"),
        ("epochs: 2", "epochs: yes", f"train.epochs (line 10): {YES_NO}; got True"),
        ("epochs: 2", "learning_rate: .inf", "train.learning_rate (line 10): must be a finite number; got inf"),
        ("epochs: 2", "learning_rate: 0", "train.learning_rate (line 10): must be greater than 0; got 0"),
        ("epochs: 2", "learning_rate: no", f"train.learning_rate (line 10): {YES_NO}; got False"),
        ("epochs: 2", "warm_up: 1.1", "train.warm_up (line 10): must be less than or equal to 1; got 1.1"),
        (
            "epochs: 2",
            "precision: fp8",
            "train.precision (line 10): must be 'auto', 'bf16', 'fp16' or 'fp32'; got 'fp8'",
        ),
        (
            "epochs: 2",
            "optimizer: lamb",
            "train.optimizer (line 10): must be 'adam', 'adamw' or 'sgd'; got 'lamb'",
        ),
        (
            "epochs: 2",
            "schedule: step",
            "train.schedule (line 10): must be 'cosine', 'one-cycle' or 'constant'; got 'step'",
        ),
        ("epochs: 2", "momentum: 1", "train.momentum (line 10): must be less than 1; got 1"),
        (
            "epochs: 2",
            "momentum: 0.8",
            "train.momentum (line 10): of the optimizers only sgd has it, not adamw; "
            "remove the key or set train.optimizer: sgd; got 0.8",
        ),
        (
            "epochs: 2",
            "nesterov: true\n  optimizer: adam",
            "train.nesterov (line 10): of the optimizers only sgd has it, not adam; "
            "remove the key or set train.optimizer: sgd; got True",
        ),
        (
            "epochs: 2",
            "nesterov: true\n  optimizer: sgd\n  momentum: 0",
            "train.nesterov (line 10): needs a momentum above 0; set train.momentum or remove the key; got True",
        ),
        ("epochs: 2", "max_grad_norm: 0", "train.max_grad_norm (line 10): must be greater than 0; got 0"),
        ("epochs: 2", "max_grad_norm: no", f"train.max_grad_norm (line 10): {YES_NO}; got False"),
        ("epochs: 2", "label_smoothing: 1", "train.label_smoothing (line 10): must be less than 1; got 1"),
        ("epochs: 2", "augment: flip", "train.augment (line 10): must be a mapping of keys and values; got 'flip'"),
        (
            "epochs: 2",
            "augment: {flips: true}",
            "train.augment.flips (line 10): unknown key; did you mean 'flip'? Known here: flip, roll, crop, event_drop",
        ),
        (
            "epochs: 2",
            "augment: {roll: -1}",
            "train.augment.roll (line 10): must be greater than or equal to 0; got -1",
        ),
        ("epochs: 2", "augment: {crop: yes}", f"train.augment.crop (line 10): {YES_NO}; got True"),
        (
            "epochs: 2",
            "augment: {event_drop: 1.5}",
            "train.augment.event_drop (line 10): must be less than or equal to 1; got 1.5",
        ),
        ("time_steps: 3\n", "", "time_steps: is missing; add it (`spquant-search spaces vgg9` shows every key)"),
        ("  name: fashion-events", "  name: 5", "data.name (line 2): must be a valid string; got 5"),
        ("network: vgg9", "network: vgg9\n  pool: no", "model.pool (line 6): must be 'before' or 'after'; got False"),
        (
            "  epochs: 2\n",
            "  # epochs: 2\n",
            "train (line 9): is empty; give it keys, or remove it: all of its keys then have their defaults",
        ),
        ("train:\n  epochs: 2", "train: 3", "train (line 9): must be a mapping of keys and values; got 3"),
        (
            "train:\n  epochs: 2",
            "neuron: {leak: 1.5}",
            "neuron.leak (line 9): must be from 1/4096 to 1, the share of a potential that a step keeps; got 1.5",
        ),
        (
            "train:\n  epochs: 2",
            "neuron: {leak: 0}",
            "neuron.leak (line 9): must be from 1/4096 to 1, the share of a potential that a step keeps; got 0",
        ),
        (
            "train:\n  epochs: 2",
            "neuron: {reset: soft}",
            "neuron.reset (line 9): must be 'zero', 'subtract' or 'delayed-subtract'; got 'soft'",
        ),
        (
            "train:\n  epochs: 2",
            "neuron: {lowest_level: {3: 2}}",
            "neuron.lowest_level.3 (line 9): the lowest level must be a number of at most 0, where a membrane rests; "
            "got 2",
        ),
        (
            "train:\n  epochs: 2",
            "neuron: {lowest_level: {16: -0.3}}",
            "neuron.lowest_level.16 (line 9): the grid of 16 levels from -0.3 by 0.0625 does not contain 0, where a "
            "membrane rests; got -0.3",
        ),
        (
            "train:\n  epochs: 2",
            "neuron: {lowest_level: {x: -1}}",
            "neuron.lowest_level.x (line 9): must be a valid integer, unable to parse string as an integer; got 'x'",
        ),
        (
            "train:\n  epochs: 2",
            "neuron: {learn_threshold: 1.5}",
            "neuron.learn_threshold (line 9): must be a valid boolean; got 1.5",
        ),
        (
            "train:\n  epochs: 2",
            "search: {sampler: magic}",
            "search.sampler (line 9): must be 'grey-box', 'tpe', 'nsga2' or 'random'; got 'magic'",
        ),
        (
            "train:\n  epochs: 2",
            "search: {stopping: {enable: true}}",
            "search.stopping.enable (line 9): unknown key; did you mean 'enabled'? "
            "Known here: enabled, margin, min_peers, optimism",
        ),
        (
            "  name: fashion-events",
            "  name: fashion-events\n  first_windows: 5",
            "data.first_windows (line 3): must be a multiple of time_steps (3), as each step is the sum of equally "
            "many windows; got 5; set it to 6, or change time_steps",
        ),
        (
            "  name: fashion-events",
            "  name: fashion-events\n  window_us: yes",
            "data.window_us (line 3): must be a number, not yes/no (YAML reads yes, no, on and off as true and false); "
            "got True",
        ),
        (
            "  name: fashion-events",
            "  name: fashion-events\n  window_us: 0",
            "data.window_us (line 3): must be greater than or equal to 1; got 0",
        ),
        ("train:\n  epochs: 2", "search: {references: [3]}", "search.references.0 (line 9): must be a mapping; got 3"),
        (
            "  epochs: 2\n",
            "  epochs: 2\ntrain:\n  epochs: 3\n",
            "train (line 11): is in line 9 already; keep one of the two",
        ),
    ],
)
def test_what_is_wrong_with_a_section(old, new, problem):
    assert BASE.count(old) == 1
    assert problems_of(BASE.replace(old, new))[0] == problem


def test_all_problems_come_at_once_in_the_files_order():
    text = BASE.replace("time_steps: 3", "time_steps: 0").replace("[2, 4]", "[2, 7]").replace("epochs", "epoch")
    text += "search:\n  seed: -1\n"
    assert [problem.partition(":")[0] for problem in problems_of(text)] == [
        "time_steps (line 3)",
        "layers.all.weight_bits.1 (line 8)",
        "train.epoch (line 10)",
        "search.seed (line 12)",
    ]


@pytest.mark.parametrize("text", ["", "# nothing\n", "- 1\n", "just words\n"])
def test_a_file_without_a_mapping(text):
    assert problems_of(text) == ("must hold a mapping with the keys data, time_steps, model and layers",)


@pytest.mark.parametrize(
    ("text", "place", "remedy", "excerpt", "under"),
    [
        (
            "data: {name: nmnist size: 34}\n",
            "line 1, column 25",
            "put a comma",
            "data: {name: nmnist size: 34}",
            ": 34}",
        ),
        ("a: {\n  b: 1\n  c: 2}\n", "line 3, column 4", "that begins in line 1); put a comma", "  c: 2}", ": 2}"),
        ("data:\n  name: [1\n", "line 3, column 1", "put a comma between two values, or close", "", ""),
        ("a: 1\n\tb: 2\n", "line 2, column 1", "indent by spaces, not by tabs", " b: 2", " b: 2"),
        ("a: b: c\n", "line 1, column 5", "a new line for each key", "a: b: c", ": c"),
        ("a:\n  b: 1\n c: 2\n", "line 3, column 2", "by the same number of spaces", " c: 2", "c: 2"),
        ("a: 'it\n", "line 2, column 1", "close the quotation mark", "", ""),
        ("a: 1\nbcd\n", "line 3, column 1", "write KEY: VALUE", "", ""),
        ("a: *b\n", "line 1, column 4", "define it before as &NAME", "a: *b", "*b"),
        ("a: @b\n", "line 1, column 4", "into quotes", "a: @b", "@b"),
        ("a: 1\n---\nb: 1\n", "line 2, column 1", "remove the line ---", "---", "---"),
        ("a: 1\r\n\r\nb: \x07\r\n", "line 3, column 4", "remove it, or save", "b:  ", " "),
        (f"# {'x' * 500}\na: {'y' * 300}, b: c\n", "line 2, column 307", "a new line for each key", ", b: c", ": c"),
        (f"a: {{b: {'y' * 300} c: {'z' * 300}}}\n", "line 1, column 310", "put a comma", "y" * 50 + " c: zzz", ": zzz"),
        ('a: "\\UFFFFFFFF"\n', "line 1, column 7", "mend this place", 'a: "\\UFFFFFFFF"', "FFFFFFFF"),
    ],
)
def test_invalid_yaml_says_where_and_what_to_do(text, place, remedy, excerpt, under):
    (problem,) = problems_of(text)
    words, line, caret = problem.split("\n")
    assert words.startswith(f"{place}: ")
    assert remedy in words
    number, _, shown = line.partition(" | ")
    assert number.strip() == place.split(",")[0].split()[1]
    assert excerpt in shown
    assert line[caret.index("^") :].startswith(under)
    assert len(line) <= 120


def test_a_tag_is_refused_and_runs_nothing():
    assert problems_of("data: !!python/object/apply:os.system ['exit 1']\n") == (
        "data (line 1): has the tag !!python/object/apply:os.system, which a space file cannot hold; "
        "write the value without it",
    )


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("a: !!binary aGk=\n", "a (line 1): has the tag !!binary, which a space file cannot hold"),
        ("a: {b: !!set {c}}\n", "a.b (line 1): has the tag !!set, which"),
        ("a: [1, !x 2]\n", "a.1 (line 1): has the tag !x, which"),
        ("a: !!int x\n", "a (line 1): is written as !!int, which 'x' is not"),
        ("a: !!bool maybe\n", "a (line 1): is written as !!bool, which 'maybe' is not"),
        (f"a: {'9' * 5000}\n", "a (line 1): is a whole number above 9,223,372,036,854,775,807, the largest there is"),
        (f"a: -0x{'f' * 16}\n", "a (line 1): is a whole number above"),
        ('a: "x\\0"\n', "a (line 1): holds the sign U+0000 (control character), which cannot be seen; remove it"),
        ("a: |\n  /data\n", "a (line 1): holds the sign U+000A (line break), which cannot be seen"),
        ('a: "\\u202e"\n', "a (line 1): holds the sign U+202E (right-to-left override), which"),
        ('a: "\\ud800"\n', "a (line 1): holds the sign U+D800"),
        ("a: {? [b, c] : 1}\n", "a (line 1): line 1: a key is no plain word"),
        ("a: {<<: 3}\n", "a.<< (line 1): merges mappings; name one"),
        ("a: 1\nb: {c: 1, c: 2}\n", "b.c (line 2): is in line 2 already; keep one of the two"),
        ("a: {'': 1, '': 2}\n", "a.'' (line 1): is in line 1 already"),
        ('a: {"\\e[31m": !x 1}\n', "a.'\\x1b[31m' (line 1): has the tag"),
    ],
)
def test_what_yaml_can_write_and_a_space_cannot_hold(text, problem):
    assert problems_of(text)[0].startswith(problem)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a: " + "[" * 17 + "]" * 17, "more than 16 levels lie in one another"),
        ("a: &x [*x]", "more than 16 levels lie in one another"),
        ("a: &x {<<: *x}", "more than 16 levels lie in one another"),
        ("a: [" + "1, " * 20_000 + "]", "more than 20,000 values and keys"),
        ("a: &a [" + "1, " * 200 + "]\nb: [" + "*a, " * 200 + "]", "more than 20,000 values and keys"),
        ("# " + "x" * 256 * 1024, "has more than 256 KiB"),
    ],
)
def test_what_would_take_long_to_read(text, words):
    (problem,) = problems_of(text)
    assert words in problem


@pytest.mark.parametrize(
    ("override", "problem"),
    [
        ("model.width=1e9", "model.width: must be less than or equal to 64; got '1e9'"),
        ("time_steps=1000000000", "time_steps: must be less than or equal to 10000; got 1000000000"),
        ("data.sensor=[1000000, 1]", "data.sensor.0: must be less than or equal to 16384; got 1000000"),
        ("data.size=99999", "data.size: must be less than or equal to 16384; got 99999"),
        ("data.classes=1000000000", "data.classes: must be less than or equal to 65535; got 1000000000"),
        ("train.epochs=1000000000", "train.epochs: must be less than or equal to 1000000; got 1000000000"),
        ("train.batch_size=1000000000", "train.batch_size: must be less than or equal to 1000000; got 1000000000"),
        ("train.augment.roll=99999", "train.augment.roll: must be less than or equal to 16384; got 99999"),
        ("search.workers=99999", "search.workers: must be less than or equal to 1024; got 99999"),
        ("search.trials=9999999", "search.trials: must be less than or equal to 1000000; got 9999999"),
        (
            "search.minutes_per_trial=1e308",
            "search.minutes_per_trial: must be less than or equal to 1000000; got '1e308'",
        ),
        ("search.budget_ladder=99999", "search.budget_ladder: must be less than or equal to 1000; got 99999"),
        ("neuron.lowest_level={257: -1}", "neuron.lowest_level.257: must be less than or equal to 256; got '257'"),
        (
            "neuron.lowest_level={3: -1e308}",
            "neuron.lowest_level.3: must be greater than or equal to -128; got '-1e308'",
        ),
        (f"search.references=[{'{}, ' * 501}]", "search.references: may have at most 500 entries, not 501; got "),
    ],
)
def test_no_number_is_larger_than_something_can_be_made_of(override, problem):
    assert problems_of(BASE, override)[0].startswith(problem)


def test_layers_together_have_no_more_choices_than_can_be_written_down():
    mass = "{channel_mass: {from: 0.01, to: 1, step: 0.01}}"
    text = BASE.replace("train:", "".join(f"  layer{number}: {mass}\n" for number in range(101)) + "train:")
    (problem,) = problems_of(text)
    assert problem.startswith("layers (line 6): name 11,1")
    assert problem.endswith("choices, where 10,000 are possible; let `all` hold what layers share")


def test_keys_are_words_as_they_are_written():
    layers = "layers:\n  0: {weight_bits: 8}\n  no: {weight_bits: 4}\n  1_0: {}\n  features.3: {}\ntrain:"
    file = parse(BASE.replace("layers:\n  all:\n    weight_bits: [2, 4]\ntrain:", layers))
    assert list(file.layers) == ["0", "no", "1_0", "features.3"]
    assert parse(frozen_space(file)) == file
    assert parse(BASE + "neuron: {lowest_level: {3: -2, '24': -2}}\n").neuron.lowest_level == {3: -2, 24: -2}


def test_aliases_and_merges_are_copies():
    shared = BASE.replace(
        "  all:", "  conv1: &one {weight_bits: 8}\n  conv2: *one\n  conv3: {<<: *one, weight_bits: 4}\n  all:"
    )
    file = parse(shared, "layers.conv1.weight_bits=2")
    bits = {name: choices.weight_bits for name, choices in file.layers.items()}
    assert bits == {"conv1": (2,), "conv2": (8,), "conv3": (4,), "all": (2, 4)}


def test_a_date_is_the_text_that_it_is_written_as():
    assert parse(BASE.replace("fashion-events", "image-folder\n  root: 2024-05-01")).data.root == "2024-05-01"
    assert parse(BASE.replace("fashion-events", "image-folder\n  root: 2024-13-45")).data.root == "2024-13-45"


def test_of_many_problems_the_first_are_told():
    text = BASE + "  augment: {" + ", ".join(f"key{number}: 1" for number in range(3000)) + "}\n"
    with pytest.raises(SpaceError) as caught:
        parse(text)
    assert len(caught.value.problems) == 3000
    lines = str(caught.value).splitlines()
    assert len(lines) == 21
    assert lines[0].startswith("s.yaml: train.augment.key0 (line 11): unknown key")
    assert lines[-1] == "s.yaml: and 2980 more problems"
    (problem,) = problems_of(BASE.replace("fashion-events", f"[{'x' * 5000}]"))
    assert len(problem) < 300


def test_files_that_cannot_be_read(tmp_path):
    remedy = "Give the path of a YAML file."
    with pytest.raises(
        UserError, match=r"gone\.yaml: cannot read this space file: No such file or directory"
    ) as caught:
        read_space(tmp_path / "gone.yaml")
    assert str(caught.value).endswith(remedy)
    with pytest.raises(UserError, match=r"cannot read this space file: Is a directory\. Give"):
        read_space(tmp_path)
    (tmp_path / "latin.yaml").write_bytes(b"# \xe9\n")
    with pytest.raises(UserError, match=r"latin\.yaml: is no UTF-8 from line 1 on; save it as a text file in UTF-8"):
        read_space(tmp_path / "latin.yaml")
    (tmp_path / "wide.yaml").write_bytes(BASE.encode("utf-16"))
    with pytest.raises(UserError, match=r"wide\.yaml: is UTF-16; save it as a text file in UTF-8"):
        read_space(tmp_path / "wide.yaml")
    (tmp_path / "marked.yaml").write_bytes(BASE.replace("\n", "\r\n").encode("utf-8-sig"))
    assert read_space(tmp_path / "marked.yaml") == parse(BASE)
    with pytest.raises(UserError, match=r"/dev/zero: is no space file: it has more than 256 KiB"):
        read_space(Path("/dev/zero"))


# ---------------------------------------------------------------- what is read as what


def test_yaml_traps():
    # PyYAML reads 4e-3, without a dot, as text.
    assert yaml.safe_load("4e-3") == "4e-3"
    assert parse(BASE + "  learning_rate: 4e-3\n").train.learning_rate == 0.004
    assert parse(BASE + "  learning_rate: 4.0e-3\n").train.learning_rate == 0.004
    for words in ("[none, 0]", "[null, 0]", "[~, -0.0]"):
        assert parse(with_layers(f"skip_below: {words}")).layers["all"].skip_below == (None, 0.0)


def test_rules_of_the_optimizer_are_told_with_those_of_the_grid():
    text = BASE.replace("epochs: 2", "momentum: 0.5") + "neuron: {lowest_level: {3: 2}}\n"
    assert [problem.partition(":")[0] for problem in problems_of(text)] == [
        "train.momentum (line 10)",
        "neuron.lowest_level.3 (line 11)",
    ]


def test_no_norm_is_no_clipping():
    assert parse(BASE + "  max_grad_norm: none\n").train.max_grad_norm is None
    assert parse(BASE + "  max_grad_norm: 5\n").train.max_grad_norm == 5.0


def test_a_single_value_is_a_choice_of_one():
    layer = parse(with_layers("weight_bits: 8", "membrane_levels: 3", "channel_mass: 1", "skip_below: none"))
    assert layer.layers["all"].weight_bits == (8,)
    assert layer.layers["all"].membrane_levels == (3,)
    assert layer.layers["all"].channel_mass == (1.0,)
    assert layer.layers["all"].skip_below == (None,)


def test_a_range_has_both_ends_and_clean_digits():
    mass = parse(with_layers("channel_mass: {from: 0.5, to: 1, step: 0.05}")).layers["all"].channel_mass
    assert mass == (0.5, 0.55, 0.6, 0.65, 0.7, 0.75, 0.8, 0.85, 0.9, 0.95, 1.0)
    mass = parse(with_layers("channel_mass: {from: 0.5, to: 0.95, step: 0.2}")).layers["all"].channel_mass
    assert mass == (0.5, 0.7, 0.9)
    assert parse(with_layers("channel_mass: {from: 0.5, to: 0.5, step: 1}")).layers["all"].channel_mass == (0.5,)


def test_quantizers_are_named_by_bits_or_once_for_all():
    assert parse(BASE).model.quantizer == {}
    once = parse(BASE, "model.quantizer=mean", "layers.all.weight_bits=[3, 4]")
    assert once.model.quantizer == dict.fromkeys((1, 2, 3, 4, 8), "mean")
    mixed = parse(BASE, "model.quantizer={2: ternary-mean, 4: sawb}")
    assert mixed.model.quantizer == {2: "ternary-mean", 4: "sawb"}
    assert parse(frozen_space(mixed)) == mixed
    float_too = parse(BASE, "model.quantizer=sawb", "layers.all.weight_bits=[4, 32]")
    assert float_too.layers["all"].weight_bits == (4, 32)


def test_what_is_wrong_with_quantizers():
    names = "'statistics', 'sawb', 'mean' or 'ternary-mean'"
    assert problems_of(BASE, "model.quantizer=best") == (f"model.quantizer: must be {names}; got 'best'",)
    assert problems_of(BASE, "model.quantizer={2: best}") == (f"model.quantizer.2: must be {names}; got 'best'",)
    assert problems_of(BASE, "model.quantizer={32: mean}") == (
        "model.quantizer.32: must be one of 1, 2, 3, 4, 8; got '32'",
    )
    text = BASE.replace("weight_bits: [2, 4]", "weight_bits: [1, 2, 4]") + "neuron: {leak: 0.25}\n"
    assert problems_of(text.replace("network: vgg9", "network: vgg9\n  quantizer: sawb")) == (
        "layers.all.weight_bits (line 9): the quantizer sawb has 4, 8 bits; got 1; take it out, or give it a "
        "quantizer of its own in model.quantizer, as {1: statistics}; it has statistics",
        "layers.all.weight_bits (line 9): the quantizer sawb has 4, 8 bits; got 2; take it out, or give it a "
        "quantizer of its own in model.quantizer, as {2: statistics}; it has statistics, ternary-mean",
    )
    assert problems_of(BASE, "layers.readout.weight_bits=3", "model.quantizer={3: sawb}") == (
        "layers.readout.weight_bits: the quantizer sawb has 4, 8 bits; got 3; take it out, or give it a quantizer "
        "of its own in model.quantizer, as {3: statistics}; it has statistics, mean",
    )


def test_a_cut_must_be_a_level_of_every_membrane_it_meets():
    good = with_layers("membrane_levels: [0, 3, 16]", "skip_below: [none, -1, 0]")
    assert parse(good).layers["all"].skip_below == (None, -1.0, 0.0)
    words = "skip_below -0.5 is no level of the 3-level membrane, which has -1 to 1 in steps of 1"
    problems = problems_of(with_layers("membrane_levels: [3, 16]", "skip_below: [none, -0.5]"))
    assert problems == (f"layers.all.skip_below (line 9): {words}",)
    # conv1's cut meets the levels of all, conv2's levels meet the cut of all, conv3 has neither of its own.
    text = with_layers("membrane_levels: 16", "skip_below: -0.5")
    text = text.replace("train:", "  conv1: {skip_below: -3}\n  conv2: {membrane_levels: 3}\n  conv3: {}\ntrain:")
    assert problems_of(text) == (
        "layers.conv1.skip_below (line 10): "
        "skip_below -3 is no level of the 16-level membrane, which has -1 to 0.875 in steps of 0.125",
        f"layers.conv2.membrane_levels (line 11): {words}",
    )


def test_a_cut_follows_a_lowered_grid():
    text = with_layers("membrane_levels: 16", "skip_below: -2").replace("16", "24")
    assert "is no level of the 24-level membrane" in problems_of(text)[0]
    lowered = parse(text + "neuron: {lowest_level: {24: -2}}\n")
    assert lowered.neuron.grid(24).lowest == -2
    assert lowered.neuron.grid(4).lowest == -2
    assert lowered.neuron.grid(3).lowest == -1


# ---------------------------------------------------------------- overrides


def test_overrides_replace_add_and_reach_lists():
    file = parse(BASE, "train.epochs=7", "layers.all.weight_bits=[1, 8]", "search.stopping.margin=0.5", "time_steps=9")
    assert file.train.epochs == 7
    assert file.layers["all"].weight_bits == (1, 8)
    assert file.search.stopping.margin == 0.5
    assert file.time_steps == (9,)
    assert parse(BASE, "train.epochs=7", "train.epochs=8").train.epochs == 8
    assert parse(BASE, "train={warm_up: 0}").train.warm_up == 0
    assert parse(BASE, "layers.conv2.skip_below=none").layers["conv2"].skip_below == (None,)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("train.epochs", "--set train.epochs: must be PATH=VALUE, for example --set train.epochs=3"),
        ("=3", "--set =3: must be PATH=VALUE, for example --set train.epochs=3"),
        ("time_steps.x=3", "--set time_steps.x=3: 'time_steps' holds 3, which has nothing below it"),
    ],
)
def test_malformed_overrides(override, message):
    with pytest.raises(UserError) as caught:
        parse(BASE, override)
    assert str(caught.value) == message


@pytest.mark.parametrize("value", ["[1", "!x 1", "&a [*a]", "9" * 5000, '"\\UFFFFFFFF"', "2024-13-45", "{from: 1"])
def test_an_override_that_no_space_file_could_hold(value):
    with pytest.raises(UserError, match=r"^(--set train\.epochs=|s\.yaml: train\.epochs: )"):
        parse(BASE, f"train.epochs={value}")


def test_a_problem_of_an_override_names_no_line_of_the_file():
    assert problems_of(BASE, "train.epochs=0") == ("train.epochs: must be greater than or equal to 1; got 0",)
    assert problems_of(BASE, "train={epochs: 0}") == ("train.epochs: must be greater than or equal to 1; got 0",)
    assert problems_of(BASE, "trian.epochs=3")[0].startswith("trian: unknown key; did you mean 'train'?")
    bad = BASE.replace("epochs: 2", "epochs: 0")
    assert problems_of(bad, "train.epoch=1")[1].startswith("train.epochs (line 10)")


# ---------------------------------------------------------------- the membrane grid


@pytest.mark.parametrize(
    ("levels", "lowest", "values"),
    [
        (2, None, (0.0, 1.0)),
        (3, None, (-1.0, 0.0, 1.0)),
        (4, None, (-2.0, -1.0, 0.0, 1.0)),
        (5, None, (-3.0, -2.0, -1.0, 0.0, 1.0)),
        (3, -2.0, (-2.0, -1.0, 0.0)),
        (4, -1.0, (-1.0, -0.5, 0.0, 0.5)),
        (9, None, tuple(index / 4 - 1 for index in range(9))),
    ],
)
def test_small_grids_by_hand(levels, lowest, values):
    assert membrane_grid(levels, lowest).values == values


@pytest.mark.parametrize(
    ("levels", "lowest", "bottom", "step", "top"),
    [
        (16, None, -1, 1 / 8, 7 / 8),
        (24, -2, -2, 1 / 8, 7 / 8),  # (1 + 2) / 23 = 0.1304: the largest power of two below it
        (256, None, -1, 1 / 128, 127 / 128),
        (256, -3, -3, 1 / 64, 63 / 64),
    ],
)
def test_larger_grids_by_hand(levels, lowest, bottom, step, top):
    grid = membrane_grid(levels, lowest)
    assert (grid.lowest, grid.step, grid.highest, len(grid.values)) == (bottom, step, top, levels)


@settings(deadline=None)
@given(levels=st.integers(2, 256), lowest=st.sampled_from([None, 0.0, -0.5, -1.0, -2.0]))
def test_a_grid_holds_zero_in_dyadic_steps_up_to_one(levels, lowest):
    try:
        grid = membrane_grid(levels, lowest)
    except ValueError:
        assume(False)
    assert 0.0 in grid.values
    assert len(set(grid.values)) == levels
    assert grid.step.as_integer_ratio()[0] & (grid.step.as_integer_ratio()[0] - 1) == 0
    assert grid.highest <= 1.0 < grid.lowest + 2 * grid.step * (levels - 1)


@pytest.mark.parametrize(
    ("levels", "lowest", "words"),
    [
        (1, None, "a membrane needs at least 2 levels, or 0 for a float one; got 1"),
        (0, None, "a membrane needs at least 2 levels, or 0 for a float one; got 0"),
        (3, 0.5, "the lowest level must be a number of at most 0"),
        (3, 1.0, "the lowest level must be a number of at most 0"),
        (3, float("nan"), "the lowest level must be a number of at most 0"),
        (3, float("-inf"), "the lowest level must be a number of at most 0"),
        (3, -0.3, "the grid of 3 levels from -0.3 by 0.5 does not contain 0"),
        (3, -3.0, "the grid of 3 levels from -3 by 2 does not contain 0"),
    ],
)
def test_grids_that_are_refused(levels, lowest, words):
    with pytest.raises(ValueError, match=words):
        membrane_grid(levels, lowest)


# ---------------------------------------------------------------- bound to a network


def test_layers_take_their_own_choices_then_those_of_all_then_none():
    text = with_layers("weight_bits: [2, 4]", "channel_mass: [0.8, 1]").replace(
        "train:", "  conv2: {weight_bits: 8}\ntrain:"
    )
    choices = {str(address): options for address, options in bound(text).choices().items()}
    first = ["time_steps", "conv1.weight_bits", "conv1.membrane_levels", "conv1.channel_mass", "conv1.skip_below"]
    assert list(choices)[:5] == first
    assert choices["conv1.weight_bits"] == (2, 4)
    assert choices["conv2.weight_bits"] == (8,)
    assert choices["conv1.channel_mass"] == (1.0,)
    assert choices["conv2.channel_mass"] == (0.8, 1.0)
    assert choices["conv2.membrane_levels"] == (0,)
    assert choices["readout.weight_bits"] == (2, 4)
    assert choices["readout.membrane_levels"] == (None,)
    assert choices["readout.channel_mass"] == (1.0,)
    assert bound(text).size() == 2 * 2 * 2 * 2 * 2  # bits of conv1, conv8, readout; mass of conv2, conv8


def test_a_space_without_choices_is_the_float_network():
    space = bound(BASE.replace("    weight_bits: [2, 4]\n", "").replace("all:", "all: {}"))
    assert space.size() == 1
    assert space.config({}) == space.baseline()


def test_unknown_and_unfit_layers_all_at_once():
    text = BASE.replace(
        "train:",
        "  conv9: {weight_bits: 4}\n  fc: {}\n  conv1: {channel_mass: [0.8, 1]}\n"
        "  readout: {membrane_levels: 3, skip_below: 0, channel_mass: 0.8}\ntrain:",
    )
    no_gate = "this layer has no channel gate (the first and the readout never do)"
    no_membrane = "this layer has no membrane; remove the key"
    known = "vgg9 has conv1 .. readout: conv1, conv2, conv8, readout, and `all`"
    problems = problems_bound(text.replace("skip_below: 0", "skip_below: none"))
    assert sorted(problems) == sorted(
        [
            f"layers.conv9: unknown layer; did you mean 'conv8'? {known}",
            f"layers.fc: unknown layer. {known}",
            f"layers.conv1.channel_mass: {no_gate}",
            f"layers.readout.channel_mass: {no_gate}",
            f"layers.readout.membrane_levels: {no_membrane}",
            f"layers.readout.skip_below: {no_membrane}",
        ]
    )


def test_a_gate_that_is_off_may_stand_anywhere():
    choices = bound(BASE.replace("train:", "  conv1: {channel_mass: 1}\ntrain:")).choices()
    assert choices[Address("conv1", "channel_mass")] == (1.0,)


def test_suggestion_ends_the_sentence():
    assert suggestion("conv9", ["conv8", "readout"]) == "; did you mean 'conv8'?"
    assert suggestion("zzz", ["conv8"]) == "."


# ---------------------------------------------------------------- references, baseline, configurations

FULL = with_layers("weight_bits: [2, 4]", "membrane_levels: [3, 16]", "channel_mass: [0.8, 1]", "skip_below: [none, 0]")


def with_references(*references: str) -> str:
    return FULL + "search:\n  references:\n" + "".join(f"    - {reference}\n" for reference in references)


def test_references_take_their_value_where_a_layer_has_it_and_are_off_where_not_named():
    plain, gated = bound(
        with_references(
            "{weight_bits: 4, membrane_levels: 3}",
            "{weight_bits: 2, membrane_levels: 16, channel_mass: 0.8, skip_below: 0}",
        )
    ).references
    assert plain["conv2"] == LayerPrecision(weight_bits=4, membrane_levels=3, channel_mass=1.0, skip_below=None)
    assert plain["readout"] == LayerPrecision(weight_bits=4, membrane_levels=None)
    assert gated["conv1"] == LayerPrecision(weight_bits=2, membrane_levels=16, channel_mass=1.0, skip_below=0.0)
    assert gated["conv8"] == LayerPrecision(weight_bits=2, membrane_levels=16, channel_mass=0.8, skip_below=0.0)
    # Written 0 in the reference and 0 in the choices: one value, a float as the field says, in every file.
    assert isinstance(gated["conv8"].skip_below, float)


def test_a_reference_may_say_none():
    (reference,) = bound(with_references("{weight_bits: 4, membrane_levels: 3, skip_below: none}")).references
    assert reference["conv2"].skip_below is None


def test_references_outside_the_space():
    problems = problems_bound(
        with_references(
            "{weight_bits: 3, membrane_levels: 3}",
            "{weight_bits: 4}",
            "{weight_bits: 4, membrane_levels: 3, channel_mass: 0.7, skip_below: -1}",
            "{weight_bit: 4, weight_bits: 4, membrane_levels: 3}",
            "{weight_bits: 4, membrane_levels: 3, channel_mass: yes}",
        )
    )
    assert problems == (
        "search.references.0.weight_bits: must be a choice of conv1.weight_bits: 2, 4; got 3",
        "search.references.1.membrane_levels: must be a choice of conv1.membrane_levels: 3, 16; got nothing",
        "search.references.2.skip_below: must be a choice of conv1.skip_below: none, 0; got -1",
        "search.references.2.channel_mass: must be a choice of conv2.channel_mass: 0.8, 1; got 0.7",
        "search.references.3.weight_bit: unknown key; did you mean 'weight_bits'? "
        "Known here: weight_bits, membrane_levels, channel_mass, skip_below, time_steps",
        "search.references.4.channel_mass: must be a choice of conv2.channel_mass: 0.8, 1; got True",
    )


def test_a_space_without_an_off_value_needs_references_that_name_one():
    text = with_references("{weight_bits: 4, membrane_levels: 3}").replace("[0.8, 1]", "[0.7, 0.8]")
    assert problems_bound(text) == (
        "search.references.0.channel_mass: must be a choice of conv2.channel_mass: 0.7, 0.8; got 1.0",
    )


def test_baseline_is_float_without_gates_and_masks():
    baseline = bound(FULL).baseline()
    assert baseline["conv2"] == LayerPrecision()
    assert baseline["conv2"].is_float
    assert baseline["readout"] == LayerPrecision(membrane_levels=None)
    assert baseline["readout"].is_float
    assert not LayerPrecision(weight_bits=32, membrane_levels=3).is_float
    assert not LayerPrecision(weight_bits=4, membrane_levels=0).is_float


@settings(max_examples=30, deadline=None)
@given(data=st.data())
def test_config_flat_and_dict_are_inverses(data):
    space = bound(FULL)
    values = {address: data.draw(st.sampled_from(options)) for address, options in space.choices().items()}
    config = space.config(values)
    assert config.flat() == values
    assert space.config(config.flat()) == config
    assert TypeAdapter(NetworkConfig).validate_python(config.as_dict()) == config
    several = {address: value for address, value in values.items() if len(space.choices()[address]) > 1}
    assert space.config(several) == config


def test_a_layer_that_is_not_there():
    with pytest.raises(KeyError, match="conv9"):
        bound(FULL).baseline()["conv9"]


# ---------------------------------------------------------------- the frozen space


def test_frozen_space_is_readable_and_equal():
    file = read_space(TINY)
    frozen = frozen_space(file)
    assert parse_space(frozen, source="frozen") == file
    assert frozen_space(parse_space(frozen, source="frozen")) == frozen
    assert "baseline_learning_rate: 0.004" in frozen  # a default, written out


@settings(max_examples=25, deadline=None)
@given(
    bits=st.lists(st.sampled_from([1, 2, 3, 4, 8, 32]), min_size=1, unique=True),
    levels=st.lists(st.sampled_from([0, 3, 16, 256]), min_size=1, unique=True),
    mass=st.lists(st.floats(0.01, 1.0), min_size=1, unique=True),
    cuts=st.lists(st.sampled_from([None, 0.0, -1.0]), min_size=1, unique=True),
    rate=st.floats(1e-9, 1e3),
    enabled=st.booleans(),
    lowest=st.dictionaries(st.sampled_from([24, 48]), st.sampled_from([-1.0, -2.0]), max_size=2),
)
def test_frozen_space_round_trip(bits, levels, mass, cuts, rate, enabled, lowest):
    document = yaml.safe_load(BASE)
    document["layers"]["all"] = {"weight_bits": bits, "membrane_levels": levels, "channel_mass": mass}
    document["layers"]["conv2"] = {"skip_below": cuts}
    document["train"]["learning_rate"] = rate
    document["search"] = {"stopping": {"enabled": enabled}, "references": [{"weight_bits": bits[0]}]}
    document["neuron"] = {"lowest_level": lowest}
    file = parse(yaml.safe_dump(document))
    assert parse(frozen_space(file)) == file


def test_every_space_of_the_project_is_valid():
    for path in sorted(TINY.parent.glob("*.yaml")):
        assert read_space(path).layers


# ---------------------------------------------------------------- the spaces that come along


def test_a_ladder_needs_the_supernet():
    def read(*overrides: str) -> Search:
        return read_space(TINY, overrides).search

    assert read("search.budget_ladder=5").ladder_points == 5
    assert read("search.budget_ladder=null").ladder_points == 8
    assert read("search.budget_ladder=null", "search.strategy=warm-start").ladder_points == 0
    assert read("search.budget_ladder=0", "search.strategy=scratch").ladder_points == 0
    with pytest.raises(SpaceError) as caught:
        read("search.budget_ladder=5", "search.strategy=warm-start")
    assert str(caught.value) == (
        f"{TINY}: search.budget_ladder: is made of subnets of the supernet, which the strategy warm-start does "
        "without; set it to 0, or search.strategy: supernet; got 5"
    )


def test_the_default_space_shows_every_key_of_training_with_its_default():
    text = (TINY.parent / "vgg9.yaml").read_text(encoding="utf-8")
    section = text.partition("\ntrain:\n")[2].partition("\n\n")[0]
    commented = [line.replace("# ", "", 1) for line in section.splitlines() if line.startswith("  # ")]
    defaults = yaml.safe_load("\n".join(commented))
    assert {*yaml.safe_load(section), *defaults} == {entry.name for entry in fields(Training)}
    assert TypeAdapter(Training).validate_python(defaults) == Training()
    assert set(defaults["augment"]) == {entry.name for entry in fields(Augmentation)}


@pytest.mark.parametrize(
    ("name", "recipe", "time_steps"),
    [
        ("vgg9-cifar10dvs", ("adam", 1e-3, 24, 200, 0.9, 0.0, Augmentation()), 10),
        ("vgg9-ncaltech101", ("adam", 1e-3, 16, 200, 0.9, 0.0, Augmentation()), 10),
        ("resnet19-cifar10", ("adam", 1e-2, 128, 300, 0.05, 0.0, Augmentation(flip=True, crop=4)), 2),
        ("resnet34-imagenet100", ("sgd", 5e-2, 32, 100, 0.05, 4e-5, Augmentation(flip=True)), 2),
        ("mobilenet-cifar10dvs", ("adam", 1e-3, 32, 200, 0.45, 0.0, Augmentation()), 16),
    ],
)
def test_baselines_of_the_papers_systems_have_the_papers_recipes(name, recipe, time_steps):
    file = read_space(TINY.parent / f"{name}.yaml")
    train = file.train
    found = (train.optimizer, train.baseline_learning_rate, train.batch_size, train.baseline_epochs, train.tet_lambda)
    assert (*found, train.weight_decay, train.augment) == recipe
    assert (train.momentum, train.schedule, train.tet_mean, file.most_time_steps) == (0.9, "cosine", 1.0, time_steps)


# ---------------------------------------------------------------- constraints


def test_constraints_are_read_with_units_and_written_as_numbers():
    words = "constraints: {memory_bytes: 64KiB, effective_flops: 60M, accuracy: 0.8}"
    found = parse(f"{BASE}\n{words}\n")
    assert found.constraints == Constraints(memory_bytes=65536, effective_flops=60e6, accuracy=0.8)
    assert parse(frozen_space(found)) == found
    assert parse(BASE).constraints == Constraints()
    plain = parse(f"{BASE}\nconstraints: {{memory_bytes: 1000.7, accuracy: none}}\n")
    assert plain.constraints == Constraints(memory_bytes=1000)


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        ("memory_bytes: 64 apples", "must be bytes, such as 64KiB, 1.5MB or 1000; got '64 apples'"),
        ("memory_bytes: 64MFLOPs", "must be bytes, such as 64KiB, 1.5MB or 1000; got '64MFLOPs'"),
        ("effective_flops: 64KiB", "must be FLOPs, such as 60M, 1.5GFLOPs or 60000000; got '64KiB'"),
        ("effective_flops: 64B", "must be FLOPs, such as 60M, 1.5GFLOPs or 60000000; got '64B'"),
        ("memory_bytes: 0", "must be greater than or equal to 1; got 0"),
        ("memory_bytes: yes", f"{YES_NO}; got True"),
        ("effective_flops: 0", "must be greater than 0; got 0"),
        ("effective_flops: .inf", "must be a finite number; got inf"),
        ("accuracy: 80", "must be less than or equal to 1; got 80"),
        (
            "memory: 64KiB",
            "unknown key; did you mean 'memory_bytes'? Known here: memory_bytes, flash_bytes, ram_bytes, "
            "effective_flops, synaptic_ops, energy_uj, accuracy",
        ),
    ],
)
def test_constraints_that_are_none(words, problem):
    with pytest.raises(SpaceError) as caught:
        parse(f"{BASE}\nconstraints: {{{words}}}\n")
    (found,) = caught.value.problems
    assert (found.key, found.sentence) == (f"constraints.{words.partition(':')[0]}", problem)
    assert found.line == len(BASE.splitlines()) + 2


@pytest.mark.parametrize(
    ("section", "of", "expected"),
    [
        ("final", Final, Final(epochs=2, learning_rate=4e-3)),
        ("supernet", Supernet, Supernet(epochs=5, learning_rate=3e-3, statistics_samples=256, validation_samples=800)),
        (
            "constraints",
            Constraints,
            Constraints(
                memory_bytes=65536,
                flash_bytes=98304,
                ram_bytes=32768,
                effective_flops=60e6,
                synaptic_ops=20e6,
                energy_uj=5.0,
                accuracy=0.8,
            ),
        ),
    ],
)
def test_the_default_space_shows_every_key_of_a_section(section, of, expected):
    text = (TINY.parent / "vgg9.yaml").read_text(encoding="utf-8")
    _, _, rest = text.partition(f"\n# {section}:" if f"\n# {section}:" in text else f"\n{section}:")
    lines = rest.partition("\n\n")[0].splitlines()[1:]
    shown = yaml.safe_load("\n".join(line.replace("# ", "", 1) if "# " in line[:4] else line for line in lines))
    assert list(shown) == [entry.name for entry in fields(of)]
    found = TypeAdapter(of).validate_python({key: value for key, value in shown.items() if value is not None})
    assert found == expected


def test_the_default_space_shows_the_defaults_that_it_does_not_take():
    text = (TINY.parent / "vgg9.yaml").read_text(encoding="utf-8")
    required = "data: {name: nmnist}\ntime_steps: 4\nmodel: {network: vgg9}\nlayers: {}\n"
    taken, default = yaml.safe_load(text), yaml.safe_load(frozen_space(parse(required)))
    flat = {
        f"{section}.{key}": (value, default[section][key])
        for section in ("model", "neuron", "train", "supernet", "final", "search")
        for key, value in (taken[section] or {}).items()
        if not isinstance(value, dict) and (section, key) != ("model", "network")
    }
    flat["search.optimism"] = (taken["search"]["stopping"]["optimism"], default["search"]["stopping"]["optimism"])
    words = {"none": [], "all": None}
    shown, section = {}, ""
    for line in text.splitlines():
        section = found[1] if (found := re.match(r"(\w+):", line)) else section
        if found := re.match(r"  +(\w+): .*# \[(.+?)\]", line):
            shown[f"{section}.{found[1]}"] = words.get(found[2], yaml.safe_load(found[2]))
    assert shown == {path: value for path, (here, value) in flat.items() if here != value}
