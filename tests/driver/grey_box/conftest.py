"""Studies that several tests look at."""

from __future__ import annotations

import pytest
from driver.grey_box.synthetic import a_study, finished, grey_box, proceed


@pytest.fixture(scope="module")
def sixty():
    """One search of 60 trials, straight through, and what it said."""
    said = []
    return proceed(a_study(grey_box(on_fallback=said.append)), 60, noise=0.003), said


@pytest.fixture(scope="module")
def twenty_five():
    return [finished(number=number) for number in range(25)]
