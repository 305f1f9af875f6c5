"""The spaces that are measured: those that are shipped, and three with networks of a user's own."""

from __future__ import annotations

from fake_gpu import own_network

from spquant_search.space.reading import parse_space
from spquant_search.space.shipped import shipped_spaces
from spquant_search.training.prepare import bind_network, prepare
from spquant_search.training.prepared import Prepared

OWN, FORMS, STILLS = own_network.NAMES
OVERRIDES = {"vgg5-images": ("data.classes=10",)}  # what a space leaves to its user


def prepared_space(name: str) -> Prepared:
    """Bind a space to its network: a shipped one, by its name, or one with a network of a user's own."""
    if name in own_network.NAMES:
        return bind_network(parse_space(own_network.space_of(name), source=name), source=name)
    return prepare(shipped_spaces()[name], OVERRIDES.get(name, ()))
