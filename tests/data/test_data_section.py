"""The section ``data`` of a space file, and the page that explains it."""

from __future__ import annotations

import json
from dataclasses import fields
from pathlib import Path

import pytest
import yaml
from PIL import Image

from spquant_search.data import catalog, description
from spquant_search.errors import SpaceError, UserError
from spquant_search.runs.folder import RunFolder
from spquant_search.runs.opening import check_run, open_run
from spquant_search.runs.records import RunFacts, read_frozen_space
from spquant_search.space.reading import parse_space
from spquant_search.space.schema import DataSpace
from spquant_search.training.prepare import bind_network

SPACE = """
data: {data}
time_steps: 2
model: {{network: vgg9, width: 0.0625}}
layers: {{all: {{weight_bits: [4], membrane_levels: [3]}}}}
"""


def test_sizes_in_a_space_file() -> None:
    one = parse_space(SPACE.format(data="{name: cifar10-dvs, root: /x, size: 48}"), source="s")
    two = parse_space(SPACE.format(data="{name: n-caltech101, root: /x, size: [48, 64], crop: 128}"), source="s")
    assert (one.data.size, two.data.size, two.data.crop) == ((48, 48), (48, 64), (128, 128))
    assert (one.data.validation_share, one.data.test_share, one.data.split_seed) == (0.1, 0.1, 0)
    bound = bind_network(one, source="s")
    assert (bound.input.channels, bound.input.height, bound.input.classes, bound.input.largest) == (2, 48, 10, 15)
    still = bind_network(parse_space(SPACE.format(data="{name: cifar10}"), source="s"), source="s")
    assert (still.input.channels, still.input.largest) == (3, 255)


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        ("size: [48]", "s: data.size"),
        ("size: 0", "s: data.size (line 2): must be greater than or equal to 1; got 0"),
        ("size: true", "s: data.size (line 2): must be a list; got True"),
        ("validation_share: 1", "s: data.validation_share (line 2): must be less than 1; got 1"),
        ("test_share: 0", "s: data.test_share (line 2): must be greater than 0; got 0"),
        ("polarity: on", "s: data.polarity (line 2): must be 'both', 'sum' or 'both-and-sum'; got True"),
        ("size: 200", "s: data.size: must be at most [34, 34] pixels [height, width], not [200, 200]"),
        ("as_events: true", "s: data.as_events: nmnist has no such option; remove the key"),
    ],
)
def test_options_are_checked_in_the_words_of_the_file(words: str, problem: str) -> None:
    with pytest.raises(SpaceError) as caught:
        bind_network(parse_space(SPACE.format(data=f"{{name: nmnist, {words}}}"), source="s"), source="s")
    assert str(caught.value).startswith(problem)


def test_a_run_keeps_the_channels_that_its_images_had(tmp_path: Path) -> None:
    for name in ("ant", "cat"):
        (tmp_path / name).mkdir()
        for number in range(3):
            Image.new("L", (4, 4), number).save(tmp_path / name / f"{number}.png")
    text = SPACE.format(data=f"{{name: image-folder, root: {tmp_path}, size: 16}}")
    given = bind_network(parse_space(text, source="s"), source="s")
    assert (given.input.channels, given.space.file.data.channels) == (1, 1)
    assert "all 6 images are grey: frames have one channel; data.channels: 3 makes it three" in given.remarks
    folder = RunFolder(path=tmp_path.with_name("run"))
    facts = RunFacts(source="s", command="", data="", classes=("a", "b"), validation_samples=1, test_samples=1)
    open_run(folder, given.space.file, facts)
    check_run(folder, given.space.file)
    Image.new("RGB", (4, 4), "red").save(tmp_path / "ant" / "red.png")
    later = bind_network(parse_space(text, source="s"), source="s")
    assert later.input.channels == 3
    with pytest.raises(UserError, match=r"\n  data\.channels: 1 in the run, 3 now\n"):
        check_run(folder, later.space.file)
    kept = bind_network(read_frozen_space(folder), source="s")
    assert kept.input.channels == 1
    assert kept.remarks[0].startswith("1 of 7 images is in colour: turned grey, ")


def test_the_page_on_data_names_every_set_and_shows_spaces_that_work() -> None:
    page = (Path(__file__).parents[2] / "docs" / "data.md").read_text(encoding="utf-8")
    shown = [yaml.safe_load(block.split("```")[0])["data"] for block in page.split("```yaml\n")[1:]]
    for values in shown:
        space = parse_space(SPACE.format(data=json.dumps(values)), source="docs/data.md")
        if values["name"] != catalog.PYTHON:  # whose function is in docs/own_data.md
            assert description.describe(space.data.name, space.data).name == values["name"]
    assert {values["name"] for values in shown} >= set(catalog.NAMES) - {"fashion-mnist"}
    for field in fields(DataSpace):
        assert f"`{field.name}`" in page or field.name == "name"
    for known in catalog.SETS.values():
        assert all(word.strip(",()") in page for word in known.source.split() if word.startswith("https"))
