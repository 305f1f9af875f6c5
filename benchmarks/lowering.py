"""What the compiled functions are on GPUs that are not there: kernels, memory traffic, registers, spills.

    python benchmarks/lowering.py                     # a table for sm_80 and sm_90; --json for its rows
    python benchmarks/lowering.py --architectures 90 --time-steps 4

It needs a CUDA build of torch and no driver: Inductor lowers each function as it does on such a GPU, Triton compiles
what comes out to a cubin, and ptxas, which comes with Triton, says what that takes. Exits with 1 unless every function
is one kernel that moves at most 1.4 times the bytes that it has to; of pooled neurons that learn a leak, it may be two.

Bytes are those of distinct addresses: each number that a kernel loads or stores counts once a kernel, however many
threads ask for it, as it stays in a cache for the others. Two kernels with a number between them count it twice.
"""

from __future__ import annotations

import argparse
import ast
import importlib.util
import json
import re
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

import numpy as np
import torch
import torch._inductor.config
from gpu.compiled_functions import Case, cases, least_bytes, neuron_steps
from measurement import as_document, markdown_table
from torch._subclasses.fake_tensor import FakeTensorMode

from spquant_search.snn.kernels.compile import OPTIONS

TIME_STEPS = (1, 2, 4, 6, 10)
ARCHITECTURES = (80, 90)
MOST_TRAFFIC = 1.4  # times the least
SAMPLES = 24
ELEMENT_BYTES = {"bf16": 2, "fp16": 2, "fp32": 4, "fp64": 8, "i1": 1, "i8": 1, "u8": 1, "i32": 4, "i64": 8}


class Card(NamedTuple):
    name: str
    multiprocessors: int


CARDS = {75: Card("T4", 40), 80: Card("A100", 108), 86: Card("A10", 72), 90: Card("H100", 132)}


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """A function on an architecture, at a number of time steps."""

    function: str
    architecture: int
    time_steps: int
    kernels: int
    bytes: float  # a neuron and step, that are moved
    least: float  # that have to be
    registers: list[int]  # of each kernel's configurations, the largest block first
    spilled: list[int]  # bytes a thread, likewise
    most_kernels: int = 1
    error: str = ""

    @property
    def is_good(self) -> bool:
        # Each further kernel may move as much again.
        most = MOST_TRAFFIC * self.most_kernels * self.least
        return not self.error and 0 < self.kernels <= self.most_kernels and self.bytes <= most


# ---------------------------------------------------------------- a GPU that is not there


def pretend(architecture: int) -> None:
    """Let torch and Triton believe in one GPU of this architecture. Nothing can run on it."""
    import torch._dynamo.device_interface as interfaces
    import torch._inductor.utils
    import torch.utils._triton
    from torch._inductor.runtime import hints, triton_helpers

    card, major, minor = CARDS[architecture], *divmod(architecture, 10)
    properties = SimpleNamespace(
        name=card.name,
        major=major,
        minor=minor,
        multi_processor_count=card.multiprocessors,
        regs_per_multiprocessor=2**16,
        max_threads_per_multi_processor=2048,
        max_threads_per_block=1024,
        warp_size=32,
        total_memory=80 * 2**30,
        shared_memory_per_block_optin=163 * 2**10,
        L2_cache_size=40 * 2**20,
        gcnArchName="",
    )
    torch.cuda.get_device_properties = lambda *_: properties  # type: ignore[assignment]
    torch.cuda.get_device_capability = lambda *_: (major, minor)  # type: ignore[assignment]
    torch.cuda.current_device = lambda: 0
    torch.cuda.device_count = lambda: 1
    cuda: Any = interfaces.CudaInterface
    cuda.Worker.get_device_properties = staticmethod(lambda *_: properties)
    cuda.get_device_properties = staticmethod(lambda *_: properties)
    cuda.get_compute_capability = staticmethod(lambda *_: architecture)
    for name, value in {"is_triton_capable": True, "raise_if_triton_unavailable": None, "is_available": True}.items():
        setattr(cuda, name, staticmethod(lambda *_, value=value: value))
    cuda.is_bf16_supported = staticmethod(lambda *_, **_more: architecture >= 80)
    torch.utils._triton.has_triton = lambda *_: True  # type: ignore[assignment]
    torch._inductor.utils.has_triton = lambda *_: True  # type: ignore[assignment]
    sizes = {"regs_per_multiprocessor": 2**16, "max_threads_per_multi_processor": 2048, "warp_size": 32}
    hints.DeviceProperties.create = classmethod(  # type: ignore[assignment, method-assign]
        lambda cls, _device: cls(
            type="cuda",
            index=0,
            multi_processor_count=card.multiprocessors,
            cc=architecture,
            major=major,
            max_threads_per_block=1024,
            **sizes,
        )
    )
    triton_helpers.set_driver_to_gpu = lambda: None  # type: ignore[assignment]
    _no_driver(architecture)


def _no_driver(architecture: int) -> None:
    from triton.backends.compiler import GPUTarget
    from triton.runtime.driver import driver

    class NoDriver:
        def get_current_target(self) -> GPUTarget:
            return GPUTarget("cuda", architecture, 32)

        def get_current_device(self) -> int:
            return 0

        def get_device_capability(self, *_: Any) -> tuple[int, int]:
            return divmod(architecture, 10)

        def get_active_torch_device(self) -> torch.device:
            return torch.device("cuda", 0)

        def is_active(self) -> bool:
            return True

    driver.set_active(NoDriver())
    driver._default = driver._active


# ---------------------------------------------------------------- lowering


class Lowered(NamedTuple):
    source: str  # the module that Inductor would import
    sizes: dict[str, int]  # of its symbols, in the call that it was made for
    steps: int
    least: int


def lowered(case: Case) -> Lowered:
    """Let Inductor lower a function as the package compiles it, with tensors that have a shape and no memory."""
    from torch._inductor.graph import GraphLowering

    found: dict[str, Any] = {}

    def captured(graph: Any, wrapper: Any) -> None:
        symbols = graph.sizevars.shape_env.backed_var_to_val.items()
        found.update(source=wrapper.value, sizes={str(symbol): int(value) for symbol, value in symbols})
        raise RuntimeError("lowered")

    compile_lines, GraphLowering._compile_to_module_lines = GraphLowering._compile_to_module_lines, captured
    torch._dynamo.reset()
    try:
        with FakeTensorMode(), torch.no_grad():
            arguments = case.arguments(torch.device("cuda", 0), SAMPLES)
            results = case.plain(*arguments)
            try:
                torch.compile(case.plain, dynamic=True, fullgraph=True, options=OPTIONS)(*arguments)
            except Exception:
                if not found:
                    raise
    finally:
        GraphLowering._compile_to_module_lines = compile_lines
    return Lowered(found["source"], found["sizes"], neuron_steps(arguments, results), least_bytes(arguments, results))


# ---------------------------------------------------------------- traffic

_DEFINED = re.compile(r"^(\w+) = async_compile\.triton\('\w+', '''(.*?)''', device_str='cuda'\)", re.S | re.M)
_ACCESS = re.compile(r"tl\.(?:load|store|atomic_add)\((\w+) \+ \((.*?)\), ")
_POINTER = re.compile(r"'(\w+)': '\*(\w+)'")
_SIZE = re.compile(r"^ +(ps\d+|triton_\w+numel) = (.+)$", re.M)  # worked out once, before kernels are called
_INDEX = re.compile(r"^ +([xyzr]\d*(?:_\d+)?) = (.+)$", re.M)


def kernel_texts(source: str) -> dict[str, str]:
    """Return the Triton text of each kernel of a module, by its name."""
    return dict(_DEFINED.findall(source))


def sizes_of_call(source: str, name: str, text: str, sizes: Mapping[str, int]) -> dict[str, int]:
    """Return the whole numbers that a module gives to a kernel, by the name of the kernel's parameter."""
    parameters = [one.split(":")[0].strip() for one in re.search(r"^def \w+\((.*?)\):", text, re.M)[1].split(",")]  # type: ignore[index]
    call = ast.parse(re.search(rf"{name}\.run\(.*?stream=\w+\)", source)[0], mode="eval").body  # type: ignore[index]
    known = dict(sizes)
    for symbol, value in _SIZE.findall(source):
        known[symbol] = int(eval(value, {}, known))
    given: dict[str, int] = {}
    for parameter, argument in zip(parameters, call.args, strict=False):  # type: ignore[attr-defined]
        if parameter.endswith("numel") or parameter.startswith("ks"):
            given[parameter] = int(eval(ast.unparse(argument), {}, known))
    return given


def traffic(text: str, sizes: Mapping[str, int]) -> int:
    """Return the bytes that a kernel moves at least: distinct addresses that it loads and stores."""
    numels = {name.removesuffix("numel"): value for name, value in sizes.items() if name.endswith("numel")}
    loops = [one for one in numels if re.search(rf"^ +{one}index = ", text, re.M)]
    known: dict[str, Any] = dict(sizes)
    for axis, one in enumerate(loops):
        shape = [1] * len(loops)
        shape[axis] = -1
        known[f"{one}index"] = np.arange(numels[one], dtype=np.int64).reshape(shape)
    known |= {"triton_helpers": SimpleNamespace(div_floor_integer=lambda a, b: a // b)}
    for name, expression in _INDEX.findall(text):
        if not name.endswith(("index", "mask", "offset", "base", "numel")) and "tl." not in expression:
            known[name] = eval(expression, {}, known)
    kinds = dict(_POINTER.findall(text))
    reached: dict[str, list[Any]] = {}
    for pointer, index in sorted(set(_ACCESS.findall(text))):
        reached.setdefault(pointer, []).append(np.ravel(eval(index, {}, known)))
    return sum(
        len(np.unique(np.concatenate(addresses))) * ELEMENT_BYTES[kinds[pointer]]
        for pointer, addresses in reached.items()
    )


# ---------------------------------------------------------------- cubins


class Binary(NamedTuple):
    block: int
    registers: int
    spilled: int  # bytes that a thread stores and loads again


def binaries(name: str, text: str, architecture: int) -> list[Binary]:
    """Compile a kernel in each of its configurations, the largest block first."""
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource, compile

    tuner = _imported(name, text)
    found = []
    for config in tuner.configs:
        meta = tuner._create_compile_meta(config)
        source = ASTSource(tuner.fn, meta["signature"], meta["constants"], meta["configs"][0])
        options = tuner._create_compile_options(config, meta)
        binary = compile(source, target=GPUTarget("cuda", architecture, 32), options=options)
        block = int(np.prod([value for key, value in config.kwargs.items() if key.endswith("BLOCK")]))
        found.append(Binary(block, *_resources(binary.asm["ptx"], architecture)))
    return sorted(found, reverse=True)


def _imported(name: str, text: str) -> Any:
    """Import a kernel's text as the module that it is, and return its autotuner."""
    file = Path(tempfile.mkdtemp(prefix="lowered-")) / f"{name}.py"
    file.write_text(text)
    specification = importlib.util.spec_from_file_location(name, file)
    assert specification is not None
    assert specification.loader is not None
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return getattr(module, re.search(r"^def (\w+)\(", text, re.M)[1])  # type: ignore[index]


def _resources(ptx: str, architecture: int) -> tuple[int, int]:
    import triton

    assembler = Path(triton.__file__).parent / "backends/nvidia/bin/ptxas"
    target = "sm_90a" if architecture == 90 else f"sm_{architecture}"
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "kernel.ptx"
        file.write_text(ptx)
        command = [str(assembler), "-v", f"--gpu-name={target}", str(file), "-o", str(Path(folder) / "kernel.cubin")]
        said = subprocess.run(command, capture_output=True, text=True, check=True).stderr
    registers = re.search(r"Used (\d+) registers", said)
    spills = re.findall(r"(\d+) bytes spill (?:stores|loads)", said)
    return int(registers[1]) if registers else 0, sum(map(int, spills))


# ---------------------------------------------------------------- all of them


def rows(architecture: int, time_steps: Sequence[int], only: str) -> Iterator[Row]:
    pretend(architecture)
    for number in time_steps:
        for case in cases(number):
            if re.search(only, case.name):
                yield _row(case, architecture, number)


def _row(case: Case, architecture: int, time_steps: int) -> Row:
    try:
        low = lowered(case)
        texts = kernel_texts(low.source)
        moved = sum(traffic(text, sizes_of_call(low.source, name, text, low.sizes)) for name, text in texts.items())
        compiled = [one for name, text in texts.items() for one in binaries(name, text, architecture)]
        return Row(
            function=case.name,
            architecture=architecture,
            time_steps=time_steps,
            # What is no kernel of Triton's own is a library's.
            kernels=len(texts) + len(re.findall(r"extern_kernels\.\w+\(", low.source)),
            bytes=moved / low.steps,
            least=low.least / low.steps,
            most_kernels=case.kernels,
            registers=[one.registers for one in compiled],
            spilled=[one.spilled for one in compiled],
        )
    except Exception as error:
        said = (str(error).strip() or type(error).__name__).splitlines()[0]
        nothing: dict[str, Any] = {"kernels": 0, "bytes": 0.0, "least": 0.0, "registers": [], "spilled": []}
        return Row(function=case.name, architecture=architecture, time_steps=time_steps, error=said, **nothing)


def table(found: Sequence[Row]) -> list[str]:
    headings = ("function", "sm", "time steps", "kernels", "bytes", "least", "registers", "spilled bytes", "")
    cells = [
        (
            row.function,
            str(row.architecture),
            str(row.time_steps),
            str(row.kernels),
            f"{row.bytes:.2f}",
            f"{row.least:.2f}",
            "/".join(map(str, row.registers)),
            "/".join(map(str, row.spilled)) if any(row.spilled) else "",
            row.error or ("" if row.is_good else "too much"),
        )
        for row in found
    ]
    return markdown_table(headings, cells)


def main() -> None:
    parser = argparse.ArgumentParser(description="What the compiled functions are on GPUs that are not there.")
    parser.add_argument("--architectures", type=int, nargs="+", choices=list(CARDS), default=ARCHITECTURES)
    parser.add_argument("--time-steps", type=int, nargs="+", default=TIME_STEPS)
    parser.add_argument("--only", default="", help="a regular expression that a function's name must match")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    if torch.version.cuda is None or importlib.util.find_spec("triton") is None:
        raise SystemExit(
            f"torch {torch.__version__} is built without CUDA; take an environment with a CUDA build of torch"
        )
    torch._inductor.config.force_disable_caches = True
    torch._inductor.config.compile_threads = 1
    torch._inductor.config.joint_graph_constant_folding = False  # which computes constants on the device
    warnings.filterwarnings("ignore", message="dynamo_pgo")
    found = []
    for architecture in options.architectures:
        for row in rows(architecture, options.time_steps, options.only):
            found.append(row)
            print(json.dumps(asdict(row)), file=sys.stderr, flush=True)  # all of them take half an hour
    bad = [row for row in found if not row.is_good]
    document = as_document([asdict(row) for row in found], {"rows": len(found), "bad": len(bad)})
    import triton

    document["versions"] |= {"torch": torch.__version__, "triton": triton.__version__}
    print(json.dumps(document, indent=1) if options.json else "\n".join(table(found)))
    raise SystemExit(1 if bad else 0)


if __name__ == "__main__":
    main()
