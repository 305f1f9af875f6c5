"""The check of a GPU: its runner with parts that stand in, and of its parts what runs on a processor."""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch

from spquant_search.training import loop

ROOT = Path(__file__).parents[2]


@pytest.fixture
def part_of_check(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Import a module of the benchmarks by its name."""
    monkeypatch.setattr(sys, "path", [str(ROOT / "benchmarks"), *sys.path])

    def imported(name: str) -> ModuleType:
        return importlib.import_module(name)

    return imported


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_without_a_gpu_it_says_so_at_once() -> None:
    done = subprocess.run(
        # These tests are begun by make, too, whose own then says where it is.
        ["make", "--no-print-directory", "gpu", f"PYTHON={sys.executable}"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    (line,) = done.stdout.splitlines()
    machine = json.loads(line)["machine"]
    assert machine["gpu"] is None
    assert machine["torch"] == torch.__version__
    assert f"gpu: torch {torch.__version__} of {sys.executable} " in done.stderr
    assert "docs/gpu.md" in done.stderr or "no GPU" in done.stderr
    assert "Traceback" not in done.stderr
    # make's own 2 stands for any failure of a command.
    assert "Error 2" in done.stderr


def test_a_python_without_torch_is_told(part_of_check: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    machine = part_of_check("gpu.machine")
    monkeypatch.setattr(machine, "find_spec", lambda _name: None)
    found = machine.machine("cuda")
    assert "has no torch; name a Python that has, as PYTHON=" in found["reason"]
    assert set(found["missing"]) == set(machine.NEEDED)


@pytest.mark.parametrize(
    ("built", "capability", "is_served"),
    [
        (["sm_75", "sm_80", "sm_90"], (7, 0), False),  # pip's wheel on a V100
        (["sm_75", "sm_80", "sm_90"], (7, 5), True),
        (["sm_80", "sm_90"], (8, 9), True),  # code for 8.0 runs on all of 8
        (["sm_80", "sm_90"], (9, 0), True),
        (["sm_86"], (8, 0), False),  # but not code for a later one
        (["sm_80", "sm_90"], (10, 0), False),
        (["sm_80", "compute_90"], (10, 0), True),  # the driver compiles it
        (["sm_80", "compute_90"], (7, 5), False),
        (["sm_90a", "sm_100"], (9, 0), True),
    ],
)
def test_a_card_that_torch_has_no_code_for_is_told(
    built: list[str],
    capability: tuple[int, int],
    is_served: bool,
    part_of_check: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    machine = part_of_check("gpu.machine")

    class Card:
        name, total_memory = "a card", 2**34

    monkeypatch.setattr(torch.cuda, "get_arch_list", lambda: built)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _device: capability)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda _device: Card)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    found = machine._gpu("cuda")
    assert ("reason" not in found) == is_served
    if not is_served:
        major, minor = capability
        assert f"has no code for a card (sm_{major}{minor}), only {' '.join(built)}" in found["reason"]


def stand_ins(check: ModuleType, **programs: str) -> list[Any]:
    """Make parts of short programs, with a limit of a second each."""
    return [
        check.Part(name=name, command=(sys.executable, "-c", program), seconds=1.0)
        for name, program in programs.items()
    ]


HOLDS = 'print(\'by the way\'); print(\'{"figure": 1, "checks": {"it_holds": true}}\')'
ENDLESS = """
import subprocess, sys, time
print('{"figure": 1}', flush=True)
print('{"figure": 2}', flush=True)
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
print('{"child": %d, "figure": 2}' % child.pid, flush=True)
time.sleep(600)
"""


def test_every_part_is_told_at_once_and_none_keeps_the_others_waiting(
    part_of_check: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    check = part_of_check("gpu.check")
    parts = stand_ins(
        check,
        good=HOLDS,
        endless=ENDLESS,
        broken="raise SystemExit('no compiler found')",
        silent="pass",
        false='print(\'{"checks": {"one_kernel": false}}\')',
        last=HOLDS,
    )
    started = time.monotonic()
    assert check.run_parts(parts, os.environ) == 1
    assert time.monotonic() - started < 60
    *lines, summary = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    found = {name: value for line in lines for name, value in line.items()}
    assert list(found) == ["good", "endless", "broken", "silent", "false", "last"]
    assert found["good"]["checks"] == {"it_holds": True}
    assert found["last"]["figure"] == 1
    assert found["endless"]["figure"] == 2  # the last that it said
    assert found["endless"]["cut_after_seconds"] == 1.0
    assert not Path(f"/proc/{found['endless']['child']}").exists() or _is_dead(found["endless"]["child"])
    assert found["broken"]["said"] == "no compiler found"
    assert found["broken"]["checks"] == {"ran": False}
    assert summary["false"] == ["endless.in_time", "broken.ran", "silent.ran", "false.one_kernel"]


def _is_dead(process: int) -> bool:
    """Tell whether a process has ended and only waits for somebody to ask how."""
    return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] == "Z"


def test_all_parts_together_have_a_limit_too(part_of_check: Any, capsys: pytest.CaptureFixture[str]) -> None:
    check = part_of_check("gpu.check")
    assert sum(check.LIMITS.values()) <= check.MOST_SECONDS == 8 * 60
    assert set(check.LIMITS) == set(check.MODULES)
    parts = stand_ins(check, first=ENDLESS, second=HOLDS)
    assert check.run_parts(parts, os.environ, most_seconds=0.5) == 1
    found = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert found[0]["first"]["cut_after_seconds"] <= 0.5
    assert found[1]["second"] == {"checks": {"in_time": False}, "said": "no time was left"}


def test_without_knowing_the_machine_no_part_begins(part_of_check: Any, capsys: pytest.CaptureFixture[str]) -> None:
    check = part_of_check("gpu.check")
    for program, said in ((ENDLESS, "no time"), ("raise SystemExit('a broken torch')", "a broken torch")):
        assert check.run_parts(stand_ins(check, machine=program, tests=HOLDS), os.environ) == 1
        printed = capsys.readouterr()
        assert [list(json.loads(line)) for line in printed.out.splitlines()] == [["machine"]]
        assert printed.err == f"gpu: what machine this is could not be found out: {said}\n"


def test_if_all_holds_the_exit_code_is_0(part_of_check: Any) -> None:
    check = part_of_check("gpu.check")
    assert check.run_parts(stand_ins(check, good=HOLDS), os.environ) == 0


def test_tests_that_fail_or_are_skipped_make_the_check_false(part_of_check: Any, tmp_path: Path) -> None:
    tests = part_of_check("gpu.device_tests")
    assert "tests/training/test_devices.py" in tests.marked_files()
    assert "tests/snn/neuron/test_neurons_on_a_gpu.py" in tests.marked_files()
    report = tmp_path / "report.xml"

    def outcome(*cases: str) -> dict[str, Any]:
        inside = "".join(f'<testcase classname="a" name="{index}">{one}</testcase>' for index, one in enumerate(cases))
        report.write_text(f"<testsuites><testsuite>{inside}</testsuite></testsuites>")
        return tests.outcome(report)  # type: ignore[no-any-return]

    good = outcome("", "")
    assert (good["passed"], good["failed"], set(good["checks"].values())) == (2, [], {True})
    assert outcome("", "<failure/>")["failed"] == ["a::1"]
    assert outcome("", "<failure/>")["checks"]["all_pass"] is False
    assert outcome("<error/>")["checks"]["all_pass"] is False
    assert outcome("", "<skipped/>")["checks"] == {"all_pass": True, "none_skipped": False}
    assert outcome()["checks"]["all_pass"] is False  # nothing ran


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("exactness", {"channels": 16, "samples": 4}),
        ("repeatability", {"samples": 8}),
    ],
)
def test_parts_run_on_a_processor_where_all_they_check_holds(
    name: str, options: dict[str, int], part_of_check: Any, plain_neurons: None
) -> None:
    module = part_of_check(f"gpu.{name}")
    *_, found = module.measure(torch.device("cpu"), **options)
    assert json.loads(json.dumps(found)) == found
    assert set(found["checks"].values()) == {True}
    if name == "exactness":
        assert found["spikes"] > 0
        assert found["sums"] > 0
    if name == "repeatability":
        assert found["tensors"] > 0
        assert found["same_seed_same_weights"]


def test_a_wait_too_many_is_counted_and_named(
    part_of_check: Any, plain_neurons: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a GPU torch counts; here every optimizer's step and every check of an epoch stand in for a wait."""
    waiting = part_of_check("gpu.waiting")
    seen: list[str] = []

    @contextmanager
    def counted(_device: torch.device) -> Iterator[list[str]]:
        seen.clear()
        found: list[str] = []
        yield found
        found += seen

    monkeypatch.setattr(waiting, "waits", counted)
    step = loop._descend
    monkeypatch.setattr(loop, "_descend", lambda *given, **more: (seen.append("step"), step(*given, **more))[1])
    check = loop._raise_if_diverged
    monkeypatch.setattr(loop, "_raise_if_diverged", lambda *given: (seen.append("epoch"), check(*given))[1])
    *_, found = waiting.measure(torch.device("cpu"), steps=1, samples=2)
    assert found["waits"] == {"step": 1, "host_step": 1, "supernet_step": 1, "subnet": 0, "evaluation": 0}
    assert found["places"]["step"] == {"step": 2, "epoch": 1}
    assert [name for name, holds in found["checks"].items() if not holds] == [
        f"{name}_waits_at_most_0" for name in ("step", "host_step", "supernet_step")
    ]


def test_what_compiled_functions_move_is_worked_out_from_shapes(part_of_check: Any) -> None:
    functions = part_of_check("gpu.compiled_functions")
    expected = {
        "forward, bf16": 6,
        "forward, fp32": 12,
        "backward, bf16": 6,
        "potentials, bf16": 4,
        "pooled spikes, bf16": 2.5,
        "backward of pooled, bf16": 4.5,
        "evaluation, attention": 20,
        "evaluation, convolution": 8,
        "evaluation, convolution, residual": 16,
        "sum pooling, forward, bf16": 2.5,
    }
    cases = {case.name: case for case in functions.cases(2)}
    for name, least in expected.items():
        arguments = cases[name].arguments(torch.device("cpu"), 2)
        results = cases[name].plain(*arguments)
        a_number = functions.least_bytes(arguments, results) / functions.neuron_steps(arguments, results)
        assert a_number == pytest.approx(least, rel=0.01), name  # parameters come on top


def test_kernels_that_ran_uncompiled_make_the_check_false(
    part_of_check: Any, plain_neurons: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    kernels = part_of_check("gpu.kernels")
    monkeypatch.setattr(kernels, "CHOSEN", {2: ""})
    *_, found = kernels.measure(torch.device("cpu"), samples=1)
    assert json.loads(json.dumps(found)) == found
    assert len(found["functions"]) > 10
    assert found["checks"]["no_fallback"] is False
    one = {"kernels": 1, "most_kernels": 1}
    for two, holds in (({"kernels": 2, "most_kernels": 1}, False), ({"kernels": 2, "most_kernels": 2}, True)):
        both = {"works": True, "functions": {"a": one, "b": two}}
        assert kernels._checks(both) == {"no_fallback": True, "one_kernel": holds}


def test_a_search_that_fails_or_falls_back_makes_the_check_false(part_of_check: Any, tmp_path: Path) -> None:
    searches = part_of_check("gpu.searches")
    good = {"exit_code": 0, "outcomes": {"COMPLETE": 2, "SUBNET": 1}, "uncompiled": 0, "out_of_memory": 0}
    assert set(searches.checks({"a": good}).values()) == {True}
    for change, check in (
        ({"exit_code": 2}, "searches_end"),
        ({"outcomes": {"COMPLETE": 1, "DIVERGED": 1}}, "none_fails"),
        ({"outcomes": {}}, "none_fails"),
        ({"uncompiled": 1}, "no_fallback"),
        ({"out_of_memory": 1}, "enough_memory"),
    ):
        assert [name for name, holds in searches.checks({"a": good, "b": good | change}).items() if not holds] == [
            check
        ]
    (tmp_path / "trials").mkdir()
    for number, outcome in enumerate(("COMPLETE", "STOPPED", "COMPLETE")):
        (tmp_path / "trials" / f"{number:04}.json").write_text(json.dumps({"outcome": outcome}))
    assert searches.outcomes(tmp_path) == {"COMPLETE": 2, "STOPPED": 1}


def test_steps_that_cannot_run_are_left_out_with_the_reason(
    part_of_check: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    steps = part_of_check("gpu.steps")

    def run(command: list[str], **_options: Any) -> Any:
        if "SpikingJelly" in command[command.index("--variant") + 1]:
            return subprocess.CompletedProcess(command, 1, "", "Traceback\nModuleNotFoundError: No module named 'it'")
        return subprocess.CompletedProcess(command, 0, 'a word\n{"milliseconds": [1.0]}', "")

    monkeypatch.setattr(steps.subprocess, "run", run)
    monkeypatch.setattr(sys, "argv", ["steps"])
    steps.main()
    found = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert set(found["variants"]) == set(steps.VARIANTS)
    assert set(found["left_out"].values()) == {"ModuleNotFoundError: No module named 'it'"}
    assert found["checks"] == {"ours_ran": True}


TEXT = """
@triton_heuristics.pointwise(
    size_hints={'x': 16},
    triton_meta={'signature': {'in_ptr0': '*bf16', 'in_ptr1': '*fp32', 'out_ptr0': '*fp32'}},
)
@triton.jit
def triton_poi_fused_0(in_ptr0, in_ptr1, out_ptr0, ks0, xnumel, XBLOCK : tl.constexpr):
    xoffset = tl.program_id(0) * XBLOCK
    xindex = xoffset + tl.arange(0, XBLOCK)[:]
    xmask = xindex < xnumel
    x2 = xindex
    x0 = (xindex % ks0)
    x1 = xindex // ks0
    tmp0 = tl.load(in_ptr0 + (x2), xmask).to(tl.float32)
    tmp1 = tl.load(in_ptr1 + (x0), xmask, eviction_policy='evict_last')
    tmp2 = tl.load(in_ptr1 + (0))
    tmp3 = tl.load(in_ptr0 + (x2), xmask).to(tl.float32)
    tmp4 = tl.load(in_ptr0 + (x0 + 3*ks0), xmask)
    tl.store(out_ptr0 + (x2), tmp3, xmask)
"""


def test_traffic_is_that_of_distinct_addresses(part_of_check: Any) -> None:
    """Worked out by hand: 12 numbers of 2 bytes and 4 behind them, 4 that all rows share, and 12 that are stored."""
    lowering = part_of_check("lowering")
    source = f"name = async_compile.triton('triton_poi_fused_0', '''{TEXT}''', device_str='cuda')\n"
    source += "        ps0 = 3*s1\n        name.run(arg0_1, arg1_1, buf0, s1, ps0, stream=raw_stream0)\n"
    ((name, text),) = lowering.kernel_texts(source).items()
    sizes = lowering.sizes_of_call(source, name, text, {"s1": 4})
    assert sizes == {"ks0": 4, "xnumel": 12}
    assert lowering.traffic(text, sizes) == 2 * (12 + 4) + 4 * 4 + 4 * 12


def test_lowering_needs_a_build_with_cuda(part_of_check: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    lowering = part_of_check("lowering")
    monkeypatch.setattr(sys, "argv", ["lowering.py"])
    monkeypatch.setattr(torch.version, "cuda", None)
    with pytest.raises(SystemExit, match="built without CUDA; take an environment with a CUDA build"):
        lowering.main()


@pytest.mark.parametrize(
    ("change", "is_good"),
    [({}, True), ({"kernels": 2}, False), ({"bytes": 8.5}, False), ({"error": "no"}, False), ({"kernels": 0}, False)],
)
def test_a_function_is_good_as_one_kernel_of_little_traffic(
    part_of_check: Any, change: dict[str, Any], is_good: bool
) -> None:
    lowering = part_of_check("lowering")
    row = {"function": "f", "architecture": 90, "time_steps": 4, "kernels": 1, "bytes": 8.3, "least": 6.0}
    assert lowering.Row(**row | {"registers": [80], "spilled": [0]} | change).is_good == is_good
