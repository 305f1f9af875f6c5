"""A picked network at home in other people's firmware: its names, its sample, CMake, Arduino and a board's answers."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from unittest import mock

import numpy as np
import pytest
from deploy.agreement import STRICT
from deploy.networks import ABOUT, TIME, a_network, loaded, needs_compiler, written
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from spquant_search.deploy import export as export_module
from spquant_search.deploy.c_library import CLibrary, compiler, object_size
from spquant_search.deploy.c_names import CNames, names_with
from spquant_search.deploy.device_facts import DeviceFacts
from spquant_search.deploy.export import Export, export
from spquant_search.errors import UserError
from spquant_search.snn.kernels.compile import Compiled

needs_cpp = pytest.mark.skipif(shutil.which("g++") is None, reason="there is no C++ compiler")
CPP = ("-Wall", "-Wextra", "-Werror", "-pedantic")
# Names with which a prefix could be mixed up, in text that is no program's.
FACTS = DeviceFacts(classes=("spq_class", "SPQ_CLASSES", "model.h", 'sample.h "', "a"), frame_sentences=("By hand.",))


def made(seed: int, prefix: str, *, facts: DeviceFacts = FACTS, labels: tuple[int, ...] = (0, 1, 2, 3)) -> Export:
    """Export a small network, which is not compiled."""
    network, shape, frames = a_network("vgg5", seed=seed, size=8, width=1 / 32)
    with mock.patch.object(export_module, "compiler", return_value=None):
        return export(
            network,
            shape,
            frames,
            time_steps=TIME,
            about=ABOUT,
            facts=replace(facts, names=names_with(prefix)),
            labels=labels,
        )


@pytest.fixture(scope="module")
def two() -> tuple[Export, Export]:
    """Two networks, of which the first has the names that every network has without a prefix."""
    before, Compiled.enabled = Compiled.enabled, False
    try:
        return made(1, "spq"), made(2, "wake")
    finally:
        Compiled.enabled = before


@pytest.fixture
def folders(two: tuple[Export, Export], tmp_path: Path) -> tuple[Path, Path]:
    return written(two[0], tmp_path / "plain"), written(two[1], tmp_path / "waking")


def vectors_of(folder: Path) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Return the test vectors' frames as a device takes them, and their logits."""
    with np.load(folder / "test_vectors.npz") as vectors:
        return np.ascontiguousarray(vectors["frames"].transpose(0, 1, 3, 4, 2)), vectors["logits"]


def run(
    *words: object, cwd: Path | None = None, check: bool = True, **more: object
) -> subprocess.CompletedProcess[str]:
    done = subprocess.run([str(word) for word in words], cwd=cwd, capture_output=True, text=True, check=False, **more)  # type: ignore[call-overload]
    assert done.returncode == 0 or not check, done.stdout + done.stderr
    return done  # type: ignore[no-any-return]


def cc(*words: object) -> None:
    run(*shlex.split(str(compiler())), *words)


# ---------------------------------------------------------------- names


@settings(max_examples=50, deadline=None)
@given(st.from_regex(r"[a-z][a-z0-9_]{0,17}", fullmatch=True) | st.text(max_size=18))
def test_a_prefix_begins_names_that_are_nobody_elses(prefix: str) -> None:
    """What is taken makes identifiers that C tells apart and that neither language keeps for itself."""
    try:
        names = names_with(prefix)
    except UserError as error:
        assert str(error).startswith(f"--prefix {prefix}: must be")  # noqa: PT017 - either way is right
        assert not re.fullmatch(r"[a-z]([a-z0-9]{0,15})", prefix)
        return
    for name in ("spq_synaptic_ops", "SPQ_TIME_STEPS"):
        changed = names.renamed(name)
        assert changed.isidentifier()
        assert changed.isascii()
        assert "__" not in changed
        assert len(changed) <= 31
    assert names.header.endswith("model.h")


@pytest.mark.parametrize("prefix", ["", "Wake", "1st", "wake_", "_wake", "a__b", "a-b", "wäke", "a" * 17, "wake\n"])
def test_a_prefix_that_could_clash_is_refused(prefix: str) -> None:
    with pytest.raises(UserError, match="must be at most 16 lower-case letters"):
        names_with(prefix)


@needs_compiler
def test_every_name_that_others_see_has_the_prefix(folders: tuple[Path, Path], tmp_path: Path) -> None:
    library = tmp_path / "wake.o"
    for macros in ((), ("-DWAKE_COUNT", "-DWAKE_TRACE")):
        cc(*STRICT, "-O1", *macros, "-c", folders[1] / "wake_model.c", "-o", library)
        symbols = re.findall(r" [A-TV-Z] (\w+)$", run("nm", library).stdout, re.MULTILINE)
        assert len(symbols) == (6 if macros else 4), symbols
        assert all(symbol.startswith("wake_") for symbol in symbols), symbols

    def macros_of(text: str) -> set[str]:
        words = (*shlex.split(str(compiler())), f"-I{folders[1]}", "-dM", "-E", "-")
        return set(re.findall(r"^#define (\w+)", run(*words, input=text).stdout, re.MULTILINE))

    own = macros_of('#include "wake_model.h"\n') - macros_of("#include <stdint.h>\n")
    assert len(own) >= 9
    assert all(name.startswith("WAKE_") for name in own), own


def test_no_file_of_a_program_keeps_a_name_without_the_prefix(two: tuple[Export, Export]) -> None:
    plain, waking = two
    ours = re.compile(r"(?i)(?<![a-z0-9])spq_\w|(?<![\w.])(model\.[ch]|sample\.h)")
    for name, content in waking.files.items():
        if Path(name).suffix in (".c", ".h", ".ino", ".txt", ".properties"):
            in_program = re.sub(r'(?<!include )"(?:[^"\\\n]|\\.)*"', "", content.decode())
            assert not ours.findall(in_program), name
    assert {"wake_model.h", "wake_model.c", "wake_sample.h", "src/wake_model.h", "src/wake_model.c"} <= set(
        waking.files
    )
    assert not {"model.h", "model.c", "sample.h"} & set(waking.files)
    assert waking.manifest["c_library"] == {"prefix": "wake", "header": "wake_model.h", "source": "wake_model.c"}
    assert CNames.of(waking.manifest) == CNames("wake")
    assert CNames.of({}) == CNames.of(plain.manifest) == CNames()


def test_names_of_classes_stay_whatever_the_prefix(two: tuple[Export, Export]) -> None:
    header = two[1].files["wake_model.h"].decode()
    assert '"spq_class",\n        "SPQ_CLASSES",\n        "model.h",\n        "sample.h \\"",' in header


def test_the_prefix_changes_names_alone(two: tuple[Export, Export], plain_neurons: None) -> None:
    """With the default put in its place, every file is what it is without a prefix; and the same pick is the same."""
    plain, again = made(2, "spq"), made(2, "wake")
    assert (again.files, again.manifest) == (two[1].files, two[1].manifest)
    changed = {name.replace("wake_", ""): content for name, content in two[1].files.items()}
    assert changed.keys() == plain.files.keys()
    for name, content in changed.items():
        text = content.replace(b"wake_model.", b"model.").replace(b"wake_sample.h", b"sample.h")
        assert text.replace(b"wake_", b"spq_").replace(b"WAKE_", b"SPQ_") == plain.files[name], name


@needs_compiler
def test_the_library_with_a_prefix_is_compiled_run_and_measured(two: tuple[Export, Export], tmp_path: Path) -> None:
    folder, model = written(two[1], tmp_path / "waking"), loaded(two[1])
    with np.load(folder / "test_vectors.npz") as vectors:
        frames = vectors["frames"]
    names = CNames.of(two[1].manifest)
    for flags in (("-O1",), ("-O3",)):
        library = CLibrary(
            folder, two[1].manifest["network"], cc=str(compiler()), work=tmp_path, flags=flags, names=names
        )
        found, expected = library.run(frames), model.run(frames)
        assert found.logits.tolist() == expected.logits.tolist()
        assert all((found.spikes[name] == fired).all() for name, fired in expected.spikes.items())
        assert found.operations > 0
    assert object_size(folder, cc=str(compiler()), work=tmp_path, names=names).flash > 1000


# ---------------------------------------------------------------- two networks in one program

_TWO = """\
#include <stdio.h>
#include "model.h"
#include "wake_model.h"
static uint8_t frame[SPQ_FRAME_BYTES];
static uint8_t waking[WAKE_FRAME_BYTES];
static bool take(uint8_t *into, size_t bytes) { return fread(into, 1, bytes, stdin) == bytes; }
void setup() {}
bool loop()
{
    spq_reset();
    wake_reset();
    for (int t = 0; t < SPQ_TIME_STEPS; ++t) { /* in turns, as both keep their state */
        if (!take(frame, sizeof frame) || !take(waking, sizeof waking))
            return false;
        spq_step(frame);
        wake_step(waking);
    }
    for (int k = 0; k < SPQ_CLASSES; ++k)
        printf("%ld %ld\\n", (long)spq_logits()[k], (long)wake_logits()[k]);
    printf("%s %s\\n", spq_class_name(spq_class()), wake_class_name(wake_class()));
    return true;
}
int main() { setup(); while (loop()) {} }
"""


def assert_both_agree(program: Path, folders: tuple[Path, Path]) -> None:
    """Run two networks in turns on their test vectors, and compare every logit with numpy's."""
    (frames, logits), (others, of_others) = map(vectors_of, folders)
    sent = b"".join(
        one.tobytes() + other.tobytes()
        for sample, shown in zip(frames, others, strict=True)
        for one, other in zip(sample, shown, strict=True)
    )
    expected = []
    for one, other in zip(logits.tolist(), of_others.tolist(), strict=True):
        expected += [f"{a} {b}" for a, b in zip(one, other, strict=True)]
        expected.append(f"{FACTS.classes[one.index(max(one))]} {FACTS.classes[other.index(max(other))]}")
    done = subprocess.run([str(program)], input=sent, capture_output=True, check=True)
    assert done.stdout.decode().splitlines() == expected


@needs_compiler
@needs_cpp
@pytest.mark.parametrize("standard", ["c++11", "c++17"])
@pytest.mark.parametrize("compiled_as", ["C", "C++"])
def test_two_networks_in_one_program_of_cpp(
    standard: str, compiled_as: str, folders: tuple[Path, Path], tmp_path: Path
) -> None:
    (tmp_path / "two.cpp").write_text(_TWO)
    includes, objects = [f"-I{folder}" for folder in folders], []
    for source in (folders[0] / "model.c", folders[1] / "wake_model.c"):
        objects.append(tmp_path / f"{source.stem}.o")
        if compiled_as == "C":
            cc(*STRICT, "-O1", "-c", source, "-o", objects[-1])
        else:
            run("g++", f"-std={standard}", *CPP, "-O1", "-x", "c++", "-c", source, "-o", objects[-1])
    run("g++", f"-std={standard}", *CPP, *includes, tmp_path / "two.cpp", *objects, "-o", tmp_path / "two")
    assert_both_agree(tmp_path / "two", folders)


# ---------------------------------------------------------------- the sample that comes along


@needs_compiler
@pytest.mark.parametrize("strict", [STRICT, ("-x", "c++", "-std=c++11", *CPP)], ids=["C", "C++"])
def test_main_answers_as_expected_and_tells_where_it_does_not(
    strict: tuple[str, ...], folders: tuple[Path, Path], tmp_path: Path
) -> None:
    folder, source = folders[1], (folders[1] / "wake_model.c").read_text()
    program, header = tmp_path / "program", (folder / "wake_sample.h").read_text()

    def answer() -> tuple[int, str]:
        cc(*strict, "-O1", f"-I{folder}", folder / "main.c", folder / "wake_model.c", "-o", program)
        done = run(program, check=False)
        return done.returncode, done.stdout

    (number,) = re.findall(r"^#define WAKE_SAMPLE_CLASS (\d+)", header, re.MULTILINE)
    assert answer() == (0, f"class {number}, as expected: {FACTS.classes[int(number)]}\n")
    # A compiler that makes something else of the same source.
    (folder / "wake_model.c").write_text(source.replace("u > one", "u > one + one"))
    code, words = answer()
    assert code == 1
    assert re.match(r"class \d, where \d is expected|class \d, as expected, but \d of 5 logits are wrong", words)
    (folder / "wake_model.c").write_text(source)
    other = f"#define WAKE_SAMPLE_CLASS {(int(number) + 1) % 5}"
    (folder / "wake_sample.h").write_text(header.replace(f"#define WAKE_SAMPLE_CLASS {number}", other))
    assert answer()[1] == f"class {number}, where {other[-1]} is expected\n"


@pytest.mark.parametrize("right", [0, 2, 3, None])
def test_the_sample_is_the_first_that_is_classified_rightly(right: int | None, plain_neurons: None) -> None:
    answers = loaded(made(1, "spq")).run(a_network("vgg5", seed=1, size=8, width=1 / 32)[2]).predictions.tolist()
    wrong = [(answer + 1) % 5 for answer in answers]
    labels = tuple(answers[at] if right is not None and at >= right else wrong[at] for at in range(4))
    text = made(1, "spq", labels=labels).files["sample.h"].decode()
    chosen = right or 0
    words = f"Sample {chosen} of test_vectors.npz, and what the network answers; in the data it is of class"
    assert f"{words} {labels[chosen]}. " in text
    assert f"#define SPQ_SAMPLE_CLASS {answers[chosen]} " in text
    assert "answers; its frames are made up. " in made(1, "spq", labels=()).files["sample.h"].decode()


# ---------------------------------------------------------------- CMake

needs_cmake = pytest.mark.skipif(shutil.which("cmake") is None, reason="cmake is not installed")
_PROJECT = """\
cmake_minimum_required(VERSION 3.16)
project(two LANGUAGES C CXX)
set(CMAKE_UNITY_BUILD @UNITY@)
@TAKEN@
add_executable(two two.cpp)
target_link_libraries(two PRIVATE spq_model wake_model)
"""
_TAKEN = {
    "add_subdirectory": "add_subdirectory(plain)\nadd_subdirectory(waking)",
    "FetchContent": """\
include(FetchContent)
FetchContent_Declare(plain SOURCE_DIR "${CMAKE_SOURCE_DIR}/plain")
FetchContent_Declare(waking SOURCE_DIR "${CMAKE_SOURCE_DIR}/waking")
FetchContent_MakeAvailable(plain waking)""",
}


@needs_compiler
@needs_cpp
@needs_cmake
@pytest.mark.parametrize(
    ("taken", "unity"), [("add_subdirectory", "ON"), pytest.param("FetchContent", "OFF", marks=pytest.mark.slow)]
)
def test_cmake_takes_two_networks_into_a_project(
    taken: str, unity: str, folders: tuple[Path, Path], tmp_path: Path
) -> None:
    (tmp_path / "two.cpp").write_text(_TWO)
    text = _PROJECT.replace("@TAKEN@", _TAKEN[taken]).replace("@UNITY@", unity)
    (tmp_path / "CMakeLists.txt").write_text(text)
    run("cmake", "-S", tmp_path, "-B", tmp_path / "build", "-Werror=dev")
    run("cmake", "--build", tmp_path / "build")
    assert_both_agree(tmp_path / "build" / "two", folders)
    made_here = {path.name for path in (tmp_path / "build").rglob("*_demo*")}
    assert not made_here, "the programs of the folders are their own"


@needs_compiler
@needs_cmake
@pytest.mark.parametrize(("number", "name"), [pytest.param(0, "spq_model", marks=pytest.mark.slow), (1, "wake_model")])
def test_the_folder_is_a_project_with_a_test(
    number: int, name: str, folders: tuple[Path, Path], tmp_path: Path
) -> None:
    build = tmp_path / "build"
    run("cmake", "-S", folders[number], "-B", build, "-Werror=dev")
    run("cmake", "--build", build)
    assert "as expected" in run(build / f"{name}_demo").stdout
    assert "100% tests passed, 0 tests failed out of 1" in run("ctest", cwd=build).stdout


# ---------------------------------------------------------------- Arduino

# What a sketch sees of a board, here a program whose serial line is a terminal.
_ARDUINO = """\
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>
static int line = -1;
static inline unsigned long micros()
{
    timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (unsigned long)now.tv_sec * 1000000UL + (unsigned long)now.tv_nsec / 1000UL;
}
static inline unsigned long millis() { return micros() / 1000UL; }
struct Port {
    void begin(unsigned long) {}
    operator bool() { return true; }
    int read()
    {
        unsigned char got;
        return ::read(line, &got, 1) == 1 ? got : -1;
    }
    void print(const char *words) { if (write(line, words, strlen(words)) < 0) _exit(1); }
    void print(char letter) { if (write(line, &letter, 1) < 0) _exit(1); }
    void print(long number) { char text[24]; snprintf(text, sizeof text, "%ld", number); print(text); }
    void print(int number) { print((long)number); }
    void print(unsigned long number) { print((long)number); }
    template <typename T> void println(T what) { print(what); println(); }
    void println() { print("\\r\\n"); }
};
static Port Serial;
void setup();
void loop();
int main(int, char **arguments)
{
    line = open(arguments[1], O_RDWR | O_NOCTTY | O_NONBLOCK);
    setup();
    for (;;)
        loop();
}
"""


def sketch_program(folder: Path, tmp_path: Path) -> Path:
    """Build the sketch as Arduino does: what lies in src is compiled, and nothing but src is searched for headers."""
    place = tmp_path / "arduino"
    place.mkdir()
    (place / "Arduino.h").write_text(_ARDUINO)
    objects = []
    for source in sorted((folder / "src").rglob("*.c")):
        objects.append(place / f"{source.stem}.o")
        cc("-std=gnu11", "-O1", f"-I{folder / 'src'}", "-c", source, "-o", objects[-1])
    sketch, program = folder / "examples" / "replay" / "replay.ino", place / "board"
    words = ("-std=gnu++11", *CPP[:3], f"-I{place}", f"-I{folder / 'src'}", "-x", "c++", sketch, "-x", "none")
    run("g++", *words, *objects, "-o", program)
    return program


@needs_compiler
@needs_cpp
def test_a_board_that_replays_the_test_vectors_is_compared(folders: tuple[Path, Path], tmp_path: Path) -> None:
    folder = folders[1]
    program, script = sketch_program(folder, tmp_path), folder / "examples" / "replay" / "replay.py"
    ours, theirs = os.openpty()
    port = os.ttyname(theirs)
    boards_end, hosts_end = tmp_path / "board_port", tmp_path / "port"
    boards_end.symlink_to(port)
    other, hosts = os.openpty()
    hosts_end.symlink_to(os.ttyname(hosts))
    board = subprocess.Popen([str(program), str(boards_end)])
    wire = joined(ours, other)
    try:
        done = run(sys.executable, script, hosts_end, check=False, timeout=60)
        assert done.stdout.splitlines()[-1] == "4 of 4 samples as expected"
        assert done.returncode == 0
        frames, logits = vectors_of(folder)
        assert len(re.findall(r"^sample \d: class \d, as expected; [\d.,]+ ms$", done.stdout, re.MULTILINE)) == len(
            frames
        )
        with np.load(folder / "test_vectors.npz") as vectors:
            changed = {name: vectors[name] for name in vectors.files}
        changed["logits"] = (
            logits + np.eye(len(logits), logits.shape[1], dtype=np.int64)[[1]] * (np.arange(4) == 2)[:, None]
        )
        np.savez(folder / "test_vectors.npz", **changed)
        wrong = run(sys.executable, script, hosts_end, check=False, timeout=60)
        assert (wrong.returncode, wrong.stdout.splitlines()[-1]) == (1, "3 of 4 samples as expected")
        assert re.search(r"^sample 2: class \d, WRONG: its logits are \[.*\], not \[", wrong.stdout, re.MULTILINE)
    finally:
        board.kill()
        board.wait()
        wire.kill()
        wire.wait()


_WIRE = """
import os, select, sys
ends = [int(word) for word in sys.argv[1:]]
while True:
    for end in select.select(ends, [], [])[0]:
        os.write(ends[1 - ends.index(end)], os.read(end, 4096))
"""


def joined(one: int, other: int) -> subprocess.Popen[bytes]:
    """Carry bytes between the masters of two terminals, as a serial line does."""
    for end in (one, other):
        raw(end)
    return subprocess.Popen([sys.executable, "-c", _WIRE, str(one), str(other)], pass_fds=(one, other))


def raw(terminal: int) -> None:
    import tty

    tty.setraw(terminal)


def test_the_folder_is_a_library_of_arduino(folders: tuple[Path, Path]) -> None:
    """By the Arduino library specification, revision 2.2: the keys, src, and examples called as their folders."""
    for folder, name in zip(folders, ("spq_model", "wake_model"), strict=True):
        lines = (folder / "library.properties").read_text().splitlines()
        properties = dict(line.split("=", 1) for line in lines)
        needed = "name version author maintainer sentence paragraph category url architectures"
        assert set(needed.split()) <= set(properties)
        assert re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9 _.-]*", properties["name"])
        assert properties["name"] == name
        assert re.fullmatch(r"\d+\.\d+\.\d+", properties["version"])
        assert (folder / "src" / properties["includes"]).is_file()
        for source in (folder / "src").iterdir():
            assert source.suffix in (".c", ".h")
            assert (folder / source.name).is_file()
        for example in (path for path in (folder / "examples").iterdir() if path.is_dir()):
            assert (example / f"{example.name}.ino").is_file()


@pytest.mark.parametrize("run_name", ["a\nname=b", "Bär", "x" * 300])
def test_a_runs_name_breaks_no_line_of_the_properties(run_name: str, plain_neurons: None) -> None:
    network, shape, frames = a_network("vgg5", seed=1, size=8, width=1 / 32)
    about = ABOUT | {"run": run_name}
    with mock.patch.object(export_module, "compiler", return_value=None):
        files = export(network, shape, frames, time_steps=TIME, about=about).files
    lines = files["library.properties"].decode("ascii").splitlines()
    assert len(lines) == 10
    assert lines[0] == "name=spq_model"
