"""Configurations in one line."""

from __future__ import annotations

import pytest
from examples import config

from spquant_search.report import forms
from spquant_search.space.configuration import NetworkConfig


def test_forms_of_a_configuration():
    precision = config("82401481F".replace("F", "0"), "3 9 10 16 17 256 0 2", mass=0.8, skip=0.0)
    assert forms.bits_form(precision) == "824F 1481 F"
    assert forms.levels_form(precision) == "39AA BEF2"
    assert forms.sparsity_form(precision) == "g7s8"
    assert forms.short_form(precision) == "824F 1481 F / 39AA BEF2 g7s8"
    assert forms.short_form(config("844", "3 3")) == "844 / 33"


def test_a_layer_stands_in_one_place_in_every_row():
    deep = [config("4" * 37, " ".join(["3"] * 36)), config("1" * 37, " ".join(["256"] * 36))]
    assert {len(forms.bits_form(one)) for one in deep} == {37 + 9}
    assert {len(forms.levels_form(one)) for one in deep} == {36 + 8}


def test_a_layer_without_membrane_keeps_its_place():
    layers = config("444", "3 3").layers
    assert forms.levels_form(NetworkConfig(time_steps=5, layers=(layers[2], layers[0], layers[2]))) == "-3"


def test_legend_explains_the_letters_in_use_and_no_others():
    assert forms.legend([config("844", "3 3")]) == "bits, levels: one character a layer"
    assert forms.legend([config("044", "16 256")]) == (
        "bits, levels: one character a layer; F float, A 10..16 levels, E 129..256"
    )


@pytest.mark.parametrize(
    ("bits", "levels", "label"),
    [
        ("4444", "3 3 3", "4 bit / 3 levels"),
        ("8444", "3 3 3", "mostly 4 bit / 3 levels"),
        ("4444", "3 3 16", "mostly 4 bit / 3 levels"),
        ("0000", "0 0 0", "float / float membranes"),
    ],
)
def test_uniform_label(bits, levels, label):
    assert forms.uniform_label(config(bits, levels)) == label
    assert forms.uniform_label(config(bits, levels, mass=0.8)) == f"{label}, sparse"
    assert forms.uniform_label(config(bits, levels, skip=0.0)) == f"{label}, sparse"
