"""What a process sets once: the device's name, the cache's place, the allocator."""

from __future__ import annotations

import os
import platform
from pathlib import Path

import pytest
import torch

from spquant_search.errors import UserError
from spquant_search.processes import keep_compiled_code, tune_allocator
from spquant_search.runs.files import cache_folder
from spquant_search.workers.devices import choose_device


def test_cache_is_where_the_environment_says(monkeypatch):
    monkeypatch.setenv("SPQUANT_CACHE", "/somewhere/cache")
    assert cache_folder() == Path("/somewhere/cache")
    monkeypatch.setenv("SPQUANT_CACHE", "")
    monkeypatch.setenv("XDG_CACHE_HOME", "/xdg")
    assert cache_folder() == Path("/xdg/spquant-search")
    monkeypatch.delenv("SPQUANT_CACHE")
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", "/home/someone")
    assert cache_folder() == Path("/home/someone/.cache/spquant-search")


def test_compiled_code_is_kept_unless_its_place_is_chosen_already(monkeypatch):
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", "/chosen")
    keep_compiled_code(Path("/cache"))
    assert os.environ["TORCHINDUCTOR_CACHE_DIR"] == "/chosen"
    monkeypatch.delenv("TORCHINDUCTOR_CACHE_DIR")
    keep_compiled_code(Path("/cache"))
    assert os.environ["TORCHINDUCTOR_CACHE_DIR"] == "/cache/compiled"


def test_devices(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert choose_device("auto") == "cpu"
    assert choose_device("cpu") == "cpu"
    for name in ("cuda", "cuda:0"):
        with pytest.raises(UserError) as caught:
            choose_device(name)
        assert str(caught.value) == (
            f"--device {name}: this machine has no CUDA device that torch can use; take --device cpu"
        )
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert choose_device("auto") == "cuda"
    assert choose_device("cuda") == "cuda"
    assert choose_device("cuda:1") == "cuda:1"
    with pytest.raises(UserError, match="--device cuda:2: there are 2 CUDA devices, numbered from 0"):
        choose_device("cuda:2")


@pytest.mark.parametrize("name", ["gpu", "", "cuda:", "cuda::", "cuda:x", "cuda:-1", "cuda:\u0661", "CPU", "mps"])
def test_words_that_are_no_device(name):
    with pytest.raises(UserError, match=r"must be auto, cpu, cuda or cuda:K with K a device number"):
        choose_device(name)


def test_allocator_takes_its_settings_on_glibc_and_lets_others_be(monkeypatch):
    if platform.libc_ver()[0] == "glibc":
        assert tune_allocator() is True
    monkeypatch.setattr(platform, "libc_ver", lambda: ("", ""))
    assert tune_allocator() is False
