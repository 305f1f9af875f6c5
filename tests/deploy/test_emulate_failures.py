"""Programs that fault, hang or write what they must not in the emulator, and tools that are missing or do not work."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from deploy.emulated import M4, Small, emulated, library, needs_emulator, with_library

from spquant_search.deploy.emulator.results import Layout
from spquant_search.deploy.emulator.running import Misbehaved
from spquant_search.deploy.emulator.targets import TARGETS, target_of
from spquant_search.deploy.emulator.tools import find_tools
from spquant_search.errors import UserError

AN = "an emulated Cortex-M4"
_ASK = (
    'static void ask(uint32_t op, const void *at) { register uint32_t r0 __asm__("r0") = op;'
    ' register const void *r1 __asm__("r1") = at; __asm__ volatile("bkpt 0xab" : "+r"(r0) : "r"(r1) : "memory"); }'
)
# What a library does in a time step, and how it is told.
MISBEHAVING = {
    "reads nowhere": (
        {"step": "(void)*(volatile uint32_t *)0x70000000;"},
        rf"{AN} faulted \(exception 3\): memory was read or written where none is, at 0x[0-9a-f]{{8}}, in spq_step "
        r"\(model\.c:\d+\)",
    ),
    "undefined instruction": (
        {"step": '__asm__ volatile("udf #0");'},
        rf"{AN} faulted \(exception 3\): an undefined instruction, at .*, in spq_step \(model\.c:\d+\)",
    ),
    "no Thumb code": (
        {"step": "((void (*)(void))0x1000)();"},
        rf"{AN} faulted \(exception 3\): a jump to what is no Thumb code, at 0x00001000.*",
    ),
    "endless recursion": (
        {
            "helpers": "static __attribute__((noinline)) int down(volatile int *n) "
            "{ volatile int own[64]; own[0] = *n; return down(own) + own[0]; }",
            "step": "volatile int n = 1; (void)down(&n);",
        },
        rf"{AN} hung: .*",  # below the RAM of this board is something that does not mind
    ),
    "an endless loop": (
        {"step": "for (;;) ;"},
        rf"{AN} hung: in 1 seconds it finished no time step; it was ended",
    ),
    "an end too soon": (
        {"helpers": _ASK, "step": "ask(0x18, (const void *)0x20026);"},
        rf"what {AN} wrote are no results: 20 bytes, where [\d,]+ are expected",
    ),
    "a failure without a word": (
        {"helpers": _ASK, "step": "ask(0x18, (const void *)0x20023);"},
        rf"QEMU ended {AN} before its end \(exit code 1\): it said nothing",
    ),
    "words that are no text": (
        {"helpers": _ASK, "step": 'ask(4, "\\033[31m red\\a\\n"); ask(0x18, (const void *)0x20023);'},
        rf"QEMU ended {AN} before its end \(exit code 1\): \[31m red",
    ),
    "endless words": (
        {"helpers": _ASK, "step": 'for (;;) ask(4, "fault of its own and many more words\\n");'},
        rf"{AN} wrote more than its results; it was ended",
    ),
    "a layer too few": (
        {"trace": "spq_trace(0, spikes, 1);"},
        rf"{AN} stopped: it ran another number of layers than the manifest has",
    ),
    "layers too many": (
        {"trace": "spq_trace(0, spikes, 1), spq_trace(1, spikes, 1), spq_trace(2, spikes, 1);"},
        rf"{AN} stopped: it ran another number of layers than the manifest has",
    ),
}


@needs_emulator
@pytest.mark.parametrize("name", MISBEHAVING)
def test_a_program_that_misbehaves_is_told_of(name: str, small: Small, tmp_path: Path) -> None:
    made, frames = small
    parts, words = MISBEHAVING[name]
    folder = with_library(made, tmp_path / "deployed", library(**parts))
    found = emulated(folder, frames[:1], patience=1.0)
    assert not found.holds
    assert re.fullmatch(words, str(found.failure)), found.failure


@needs_emulator
@pytest.mark.parametrize("name", TARGETS)
def test_a_fault_is_told_of_on_every_target(name: str, small: Small, tmp_path: Path) -> None:
    made, frames = small
    folder = with_library(made, tmp_path / "deployed", library(step='__asm__ volatile("udf #0");'))
    found = emulated(folder, frames[:1], TARGETS[name])
    assert re.match(rf"{re.escape(TARGETS[name].words)} faulted .*: an undefined instruction, ", str(found.failure))


@needs_emulator
@pytest.mark.parametrize("name", ["cortex-m33", "cortex-m55", "stm32f405"])
def test_a_stack_that_leaves_the_memory_faults(name: str, small: Small, tmp_path: Path) -> None:
    made, frames = small
    parts, _ = MISBEHAVING["endless recursion"]
    found = emulated(with_library(made, tmp_path / "deployed", library(**parts)), frames[:1], TARGETS[name])
    assert re.search(r"faulted \(exception 3\): .*the stack left the memory", str(found.failure))


@needs_emulator
@pytest.mark.parametrize("source", ["int main(void) { return nothing; }", '#include "model.h"\n', "#include <no.h>\n"])
def test_a_library_that_does_not_compile_is_told_of(source: str, small: Small, tmp_path: Path) -> None:
    made, frames = small
    found = emulated(with_library(made, tmp_path / "deployed", source), frames)
    assert not found.holds
    assert found.samples == 0
    assert re.match(r".*arm-none-eabi-gcc failed: .*(nothing|spq_step|no\.h)", str(found.failure), flags=re.DOTALL)


# ---------------------------------------------------------------- what is read is checked

LAYOUTS = [Layout(M4, 3, 2, 16, traced) for traced in (None, 2)]


def results_of(layout: Layout, samples: int) -> np.ndarray:
    """Make up results that are well-formed."""
    words = [0x51505301, layout.time_steps, layout.classes, layout.frame_bytes, 5000]
    steps = layout.time_steps * (1 if layout.traced_layers is None else 2 * layout.traced_layers + 1)
    for sample in range(samples):
        words += [*range(100, 100 + steps), 0x51505302, sample, 7, 1, *[2**32 - 1 - number for number in range(2)]]
    return np.array([*words, 0x51505303, samples, 448, 1000], dtype="<u4")


@pytest.mark.parametrize("layout", LAYOUTS, ids=["plain", "traced"])
def test_results_are_read_where_they_are_well_formed(layout: Layout) -> None:
    found = layout.read(results_of(layout, 3).tobytes(), 3)
    assert found.logits.tolist() == [[-1, -2]] * 3
    assert (found.classes.tolist(), found.stack) == ([1] * 3, 448)
    if layout.traced_layers is None:
        assert found.instructions is not None
        assert found.instructions.tolist() == [40.0 * (7 + 100 + 101 + 102)] * 3
    else:
        assert found.checksums is not None
        assert found.layers is not None
        assert found.checksums[1].tolist() == [[100, 101], [105, 106], [110, 111]]
        assert found.layers[1].tolist() == [[40.0 * ticks for ticks in range(t, t + 3)] for t in (102, 107, 112)]


@pytest.mark.parametrize("layout", LAYOUTS, ids=["plain", "traced"])
def test_no_garbage_is_taken_for_results(layout: Layout) -> None:
    """Every word that has one value alone, and every other length, is noticed."""
    right = results_of(layout, 2)
    sample = len(right[9:]) // 2
    fixed = [0, 1, 2, 3, *(5 + number * sample + sample - 6 + at for number in range(2) for at in (0, 1)), -4, -3]
    for place in fixed:
        for value in (0, 1, 7, int(right[place]) ^ 1 << 31):
            wrong = right.copy()
            wrong[place] = value
            if not np.array_equal(wrong, right):
                with pytest.raises(Misbehaved, match="wrote are no results: "):
                    layout.read(wrong.tobytes(), 2)
    for written_ in (b"", right.tobytes()[:-1], right.tobytes() + b"\0", right.tobytes()[4:], b"x" * 40):
        with pytest.raises(Misbehaved, match=r"[\d,]+ bytes, where [\d,]+ are expected"):
            layout.read(written_, 2)


def test_a_stack_that_took_all_there_was_is_told_of() -> None:
    full = results_of(LAYOUTS[0], 1)
    full[-1] = 0
    with pytest.raises(Misbehaved, match=f"the stack of {AN} ran over"):
        LAYOUTS[0].read(full.tobytes(), 1)


@pytest.mark.parametrize("ticks", [0, 200_000, 4980, 5020])
def test_a_timer_with_other_ticks_is_refused(ticks: int) -> None:
    other = results_of(LAYOUTS[0], 1)
    other[4] = ticks
    with pytest.raises(UserError, match=r"timer has [\d,.]+ instructions a tick, where 40 are expected"):
        LAYOUTS[0].read(other.tobytes(), 1)


# ---------------------------------------------------------------- tools


def program(folder: Path, name: str, text: str) -> None:
    folder.mkdir(exist_ok=True)
    (folder / name).write_text(f"#!/bin/sh\n{text}\n")
    (folder / name).chmod(0o755)


ALL = ("qemu-system-arm", "arm-none-eabi-gcc", "arm-none-eabi-size", "arm-none-eabi-addr2line")


def test_what_is_missing_is_named_with_the_remedy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(UserError) as caught:
        find_tools(M4)
    words = str(caught.value)
    assert words.startswith(f"--emulate cortex-m4 needs {', '.join(ALL)}, which are not installed here. ")
    assert "apt-get install qemu-system-arm gcc-arm-none-eabi libnewlib-arm-none-eabi" in words
    for name in ALL[1:]:
        program(tmp_path, name, "echo libc.a")
    with pytest.raises(UserError, match="needs qemu-system-arm, newlib, which are not installed here"):
        find_tools(M4)


MACHINES = "echo 'mps2-an385  one'; echo 'none  no machine'"
VERSION = "echo 'QEMU emulator version 2.1.0 (old)'"


def with_tools(folder: Path, monkeypatch: pytest.MonkeyPatch, qemu: str) -> None:
    """Let the tools be found in ``folder`` alone: a QEMU that does what ``qemu`` says, and others that work."""
    program(folder, "qemu-system-arm", qemu)
    program(folder, "arm-none-eabi-gcc", 'case "$1" in -print*) echo /lib/libc.a;; *) echo 12.2.1;; esac')
    for name in ALL[2:]:
        program(folder, name, "true")
    monkeypatch.setenv("PATH", str(folder))


def test_a_qemu_without_the_machine_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with_tools(tmp_path, monkeypatch, f'case "$1" in --version) {VERSION};; *) {MACHINES};; esac')
    words = rf"--emulate cortex-m4: {tmp_path}/qemu-system-arm \(2\.1\.0\) has no machine mps2-an386; QEMU 7\.2 has it"
    with pytest.raises(UserError, match=words):
        find_tools(M4)
    assert find_tools(replace(M4, machine="mps2-an385")).qemu_version == "2.1.0"


def test_a_tool_that_does_not_work_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with_tools(tmp_path, monkeypatch, "echo no library >&2; exit 127")
    with pytest.raises(UserError, match=r"qemu-system-arm does not work here: no library"):
        find_tools(M4)
    (tmp_path / "qemu-system-arm").write_bytes(b"\x7fELF no program")
    with pytest.raises(UserError, match=r"qemu-system-arm cannot be started: Exec format error"):
        find_tools(M4)


@needs_emulator
@pytest.mark.parametrize(
    ("does", "words"),
    [
        ("echo 'qemu: no such accelerator' >&2; exit 1", "does not run mps2-an386 here (exit code 1): qemu: no such"),
        ("kill -9 $$", "does not run mps2-an386 here (exit code -9): it said nothing"),
    ],
)
def test_a_qemu_that_does_not_run_the_machine_is_named(
    does: str, words: str, small: Small, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made, frames = small
    tools = find_tools(M4)
    program(tmp_path / "other", "qemu", does)
    other = replace(tools, qemu=str(tmp_path / "other" / "qemu"))
    monkeypatch.setattr("deploy.emulated.find_tools", lambda target: other)
    with pytest.raises(UserError, match=re.escape(words)):
        emulated(with_library(made, tmp_path / "deployed", library()), frames)


@needs_emulator
def test_a_qemu_that_ends_well_without_a_result_is_not_believed(
    small: Small, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made, frames = small
    program(tmp_path / "other", "qemu", "exit 0")
    other = replace(find_tools(M4), qemu=str(tmp_path / "other" / "qemu"))
    monkeypatch.setattr("deploy.emulated.find_tools", lambda target: other)
    found = emulated(with_library(made, tmp_path / "deployed", library()), frames)
    assert not found.holds
    assert re.search(r"wrote are no results: 0 bytes, where", str(found.failure))


# ---------------------------------------------------------------- names


@pytest.mark.parametrize("name", [*TARGETS, *map(str.upper, TARGETS)])
def test_targets_go_by_their_names(name: str) -> None:
    assert target_of(name).name == name.lower()


@pytest.mark.parametrize(("name", "meant"), [("m4", "cortex-m4"), ("cortexm4", "cortex-m4"), ("stm32f4", "stm32f405")])
def test_another_name_is_answered_with_all_there_are(name: str, meant: str) -> None:
    with pytest.raises(UserError) as caught:
        target_of(name)
    assert str(caught.value).endswith(f"There are: {', '.join(TARGETS)}")
    assert meant in str(caught.value)
