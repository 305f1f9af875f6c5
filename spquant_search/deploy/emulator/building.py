"""Build the program that runs a picked network in the emulator: its start, the library of the folder, its memory."""

from __future__ import annotations

import re
import subprocess
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

from spquant_search.deploy.c_library import STANDARD, CompilerFailed
from spquant_search.deploy.c_names import CNames
from spquant_search.deploy.emulator.targets import Memory, Target
from spquant_search.deploy.emulator.tools import Tools
from spquant_search.errors import UserError

OPTIMIZED = ("-O2",)  # as a program is built that takes the library
LEAST_STACK_BYTES = 2048
_OWN_FILES = ("semihosting.h", "timer.h", "start.c", "program.c")
_SCRIPT = "program.ld"
_MOST_LINES = 12  # of what the compiler says


@dataclass(frozen=True, slots=True)
class Program:
    """A program for the emulator, and the bytes of the library in it (``model.o``)."""

    file: Path
    library_flash: int
    library_ram: int


def build(
    folder: Path, names: CNames, target: Target, tools: Tools, *, work: Path, traced_layers: int | None = None
) -> Program:
    """Compile the library of ``folder``, which has such names, into a program below the folder ``work``.

    With ``traced_layers`` it is built with SPQ_TRACE, and keeps checksums and instructions of so many layers.

    Raises:
        CompilerFailed: the library does not compile.
        UserError: the program does not fit into the target's memory.
    """
    work.mkdir(parents=True)
    files = resources.files(__package__)
    for name in _OWN_FILES:
        (work / name).write_text(names.renamed(files.joinpath(name).read_text(encoding="ascii")), encoding="ascii")
    script, library, program = work / _SCRIPT, work / "model.o", work / "program.elf"
    script.write_text(_linker_script(files.joinpath(_SCRIPT).read_text(encoding="ascii"), target), encoding="ascii")
    flags = [*target.flags, *STANDARD, *OPTIMIZED, "-g", f"-I{folder}"]  # -g changes no instruction
    if traced_layers is not None:
        flags += [names.renamed("-DSPQ_TRACE"), f"-DLAYERS={traced_layers}"]
    _gcc(tools, [*flags, "-c", str(folder / names.source), "-o", str(library)])
    timer = f"-D{target.timer.kind}={target.timer.address:#x}u"
    sources = [str(work / name) for name in _OWN_FILES if name.endswith(".c")]
    link = ["-nostartfiles", f"-T{script}", "-o", str(program)]
    try:
        _gcc(tools, [*flags, timer, *link, *sources, str(library)])
    except CompilerFailed as error:
        overflows = dict(re.findall(r"region `(FLASH|RAM)' overflowed by (\d+) bytes?", str(error)))
        if not overflows:
            raise
        built = "built with SPQ_TRACE, the program" if traced_layers is not None else "the program"
        raise UserError(_too_large(target, built, {name: int(by) for name, by in overflows.items()})) from None
    return Program(program, *_sizes(tools, library))


def _linker_script(template: str, target: Target) -> str:
    values = {"STACK_BYTES": LEAST_STACK_BYTES}
    for name, memory in (("FLASH", target.flash), ("RAM", target.ram)):
        values |= {f"{name}_ORIGIN": memory.origin, f"{name}_BYTES": memory.bytes}
    return re.sub(r"@(\w+)@", lambda mark: f"{values[mark[1]]:#x}", template)


def _gcc(tools: Tools, arguments: list[str]) -> None:
    command = [tools.gcc, *arguments]
    answer = subprocess.run(command, capture_output=True, text=True, errors="replace", check=False)
    if answer.returncode:
        lines = answer.stderr.strip().splitlines()
        # The linker names what does not fit last.
        shown = lines if len(lines) <= _MOST_LINES else [*lines[: _MOST_LINES - 3], "...", *lines[-3:]]
        raise CompilerFailed(f"{tools.gcc} failed: " + ("\n".join(shown) or f"exit code {answer.returncode}"))


def _too_large(target: Target, built: str, overflows: dict[str, int]) -> str:
    memories: dict[str, tuple[str, Memory]] = {"FLASH": ("flash", target.flash), "RAM": ("RAM", target.ram)}
    needs = []
    for name, over in sorted(overflows.items()):
        word, memory = memories[name]
        needs.append(f"{memory.bytes + over:,} bytes of {word}, and it has {memory.bytes:,}")
    return (
        f"--emulate {target.name}: {built} does not fit: it needs {'; '.join(needs)}. Of that are what runs the "
        f"samples, and at least {LEAST_STACK_BYTES:,} bytes for the stack. Pick a smaller member with "
        "--max-flash or --max-ram, or emulate a target with more memory"
    )


def _sizes(tools: Tools, library: Path) -> tuple[int, int]:
    answer = subprocess.run([tools.size, str(library)], capture_output=True, text=True, check=True)
    text, data, bss = (int(word) for word in answer.stdout.splitlines()[1].split()[:3])
    return text + data, data + bss
