"""What of a space is sampled, and from which distributions."""

from __future__ import annotations

import pytest
from driver.study_examples import a_space, proceed, study_at
from optuna.distributions import CategoricalDistribution, FloatDistribution

from spquant_search.driver.optuna_samplers import distributions
from spquant_search.space.address import Address


def test_only_what_has_a_choice_is_sampled():
    found = distributions(a_space())
    assert "conv1.channel_mass" not in found
    assert "readout.membrane_levels" not in found
    assert found["conv1.weight_bits"] == CategoricalDistribution((1, 2, 4, 8))
    assert found["conv2.skip_below"] == CategoricalDistribution((None, 0.0))
    assert found["conv2.channel_mass"] == FloatDistribution(0.5, 1.0, step=0.05)


@pytest.mark.parametrize(
    ("choices", "stepped"),
    [
        ("[0.8, 0.9, 1.0]", True),
        ("[1.0, 0.8, 0.9]", True),
        ("[0.8, 1.0]", False),  # two values have no order to learn
        ("[0.5, 0.9, 1.0]", False),
        ("[0.333333, 0.666667, 1.0]", False),  # Optuna would cut off 1.0
        ("[0.123456789012, 0.223456789012, 0.323456789012]", False),
    ],
)
def test_evenly_spaced_fractions_are_a_range_that_holds_every_choice(tmp_path, choices, stepped):
    space = a_space(f"layers.all.channel_mass={choices}", "search.references=[]", "search.sampler=random")
    found = distributions(space)["conv2.channel_mass"]
    assert isinstance(found, FloatDistribution) is stepped
    if isinstance(found, FloatDistribution):
        assert all(found._contains(option) for option in space.choices()[Address("conv2", "channel_mass")])


def test_stepped_values_come_back_as_the_space_writes_them(tmp_path):
    """Optuna gives 0.65 as 0.6500000000000001."""
    space = a_space("search.sampler=random")
    study = study_at(tmp_path / "study.journal", space)
    masses = {one.config["conv2"].channel_mass for one in proceed(study, 40)}
    assert masses <= set(space.choices()[Address("conv2", "channel_mass")])
    assert len(masses) > 5
