"""What a process sets once: the cache's place, its GPU, its compilers, the allocator."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from pathlib import Path

import pytest

from spquant_search.processes import keep_compiled_code, limit_compilers, show_gpu, tune_allocator
from spquant_search.runs.files import cache_folder


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


def test_compilers_are_as_many_as_the_user_says_who_says_it(monkeypatch):
    monkeypatch.setenv("TORCHINDUCTOR_COMPILE_THREADS", "5")
    limit_compilers(2)
    assert os.environ["TORCHINDUCTOR_COMPILE_THREADS"] == "5"
    monkeypatch.delenv("TORCHINDUCTOR_COMPILE_THREADS")
    limit_compilers(2)
    assert os.environ["TORCHINDUCTOR_COMPILE_THREADS"] == "2"


def test_a_gpu_is_shown_before_torch_looks_for_one(monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1")
    monkeypatch.setitem(sys.modules, "torch", object())
    with pytest.raises(AssertionError, match="before torch is imported"):
        show_gpu("GPU-1234")
    assert os.environ["CUDA_VISIBLE_DEVICES"] == "0,1"
    monkeypatch.delitem(sys.modules, "torch")
    show_gpu("GPU-1234")
    assert os.environ["CUDA_VISIBLE_DEVICES"] == "GPU-1234"


def test_allocator_takes_its_settings_on_glibc_and_lets_others_be(monkeypatch):
    if platform.libc_ver()[0] == "glibc":
        assert tune_allocator() is True
    monkeypatch.setattr(platform, "libc_ver", lambda: ("", ""))
    assert tune_allocator() is False


def test_processes_begin_without_the_main_program(tmp_path):
    """A script that starts processes as it runs would otherwise start them again in each of them."""
    script = (
        "import multiprocessing, os\n"
        "from spquant_search.processes import main_left_out\n"
        "print('the script runs', flush=True)\n"
        "process = multiprocessing.get_context('spawn').Process(target=os.getpid)\n"
        "with main_left_out():\n"
        "    process.start()\n"
        "process.join()\n"
        "print(process.exitcode)\n"
    )
    (tmp_path / "script.py").write_text(script)
    for words in ([str(tmp_path / "script.py")], ["-"]):
        done = subprocess.run([sys.executable, *words], input=script, capture_output=True, text=True, check=False)
        assert (done.stdout, done.stderr) == ("the script runs\n0\n", "")
