"""Which GPU each trainer takes: a function of numbers, held against properties and cases worked by hand."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spquant_search.training.prepare import prepare
from spquant_search.workers.messages import TrainerConfig
from spquant_search.workers.placement import (
    MOST_ON_A_GPU,
    USED_SHARE,
    Gpu,
    named_gpus,
    place_trainers,
    trainers_on_processor,
)

GIB = 2**30
TINY = Path(__file__).parents[2] / "spaces" / "tiny.yaml"


def gpus(*free: int) -> tuple[Gpu, ...]:
    return tuple(
        Gpu(visible_as=str(number), name="NVIDIA T4", capability=(7, 5), free_bytes=bytes_, total_bytes=80 * GIB)
        for number, bytes_ in enumerate(free)
    )


def names(placed: tuple[Gpu, ...]) -> str:
    return "".join(gpu.visible_as for gpu in placed)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (None, None),
        ("", ()),
        ("0", ("0",)),
        ("2,0", ("2", "0")),
        (" 2 , 0 ", ("2", "0")),
        ("0,2,-1,1", ("0", "2")),
        ("-1", ()),
        ("-1,0", ()),
        ("0,,1", ("0",)),
        ("NoDevFiles", ()),  # as Slurm sets it where a job has no GPU
        ("none", ()),
        ("0,all", ("0",)),
        ("1gpu2,2ampere", ("1", "2")),
        ("0,0", ()),
        ("1,01", ()),
        ("GPU-8932f937-d72c-4106-c12f-20bd9faed9f6", ("GPU-8932f937-d72c-4106-c12f-20bd9faed9f6",)),
        ("GPU-8932f937,GPU-aa", ("GPU-8932f937", "GPU-aa")),
        ("GPU-8932f937,x,GPU-aa", ("GPU-8932f937",)),
        ("GPU-aa,GPU-aa", ()),
        ("MIG-05f3,MIG-GPU-8932f937/1/0", ("MIG-05f3", "MIG-GPU-8932f937/1/0")),
        ("GPU-", ()),
    ],
)
def test_names_of_gpus_are_read_as_cuda_reads_them(value: str | None, expected: tuple[str, ...] | None) -> None:
    assert named_gpus(value) == expected


@given(st.lists(st.sampled_from(["0", "1", "7", "GPU-a1", "GPU-b2", "MIG-c3", "-1", "x", ""])))
def test_nothing_behind_an_entry_that_is_no_name_counts(entries: list[str]) -> None:
    found = named_gpus(",".join(entries))
    assert found is not None
    valid = next((at for at, entry in enumerate(entries) if entry in ("-1", "x", "")), len(entries))
    assert list(found) in ([], entries[:valid])
    assert (list(found) == entries[:valid]) == (len(set(entries[:valid])) == valid)
    assert named_gpus(",".join(found)) == found


@pytest.mark.parametrize(
    ("wanted", "free", "cores", "expected"),
    [
        # As many as are wanted go around, whatever the memory and the cores.
        (1, (0, 9), 1, "0"),
        (5, (9, 9, 9), 1, "01201"),
        (2, (9, 9, 9), 64, "01"),
        # A trainer takes 2 GiB, and nine tenths are used: 10 GiB hold 4, 11.2 hold 5.
        (None, (10,), 64, "0000"),
        (None, (10, 10), 64, "01010101"),
        (None, (10, 5), 64, "010100"),
        (None, (5, 10, 1), 64, "010111"),
        # No more than cores, and every GPU first.
        (None, (80, 80), 5, "01010"),
        (None, (80, 80, 80), 2, "01"),
        # No more than are of use.
        (None, (80,), 64, "0" * MOST_ON_A_GPU),
        # One there is in any case, where most is free.
        (None, (1, 2, 1), 64, "1"),
        (None, (0,), 1, "0"),
    ],
)
def test_trainers_on_gpus_as_worked_by_hand(
    wanted: int | None, free: tuple[int, ...], cores: int, expected: str
) -> None:
    placed = place_trainers(wanted, gpus(*(each * GIB for each in free)), trainer_bytes=2 * GIB, cores=cores)
    assert names(placed) == expected


@given(
    wanted=st.one_of(st.none(), st.integers(1, 40)),
    free=st.lists(st.integers(0, 200 * GIB), min_size=1, max_size=9),
    trainer_bytes=st.integers(0, 20 * GIB),
    cores=st.integers(1, 300),
)
def test_trainers_are_spread_and_fit(wanted: int | None, free: list[int], trainer_bytes: int, cores: int) -> None:
    devices = gpus(*free)
    placed = place_trainers(wanted, devices, trainer_bytes=trainer_bytes, cores=cores)
    counts = Counter(placed)
    assert set(placed) <= set(devices)
    if wanted is not None:
        assert len(placed) == wanted
        assert len(counts) == min(wanted, len(devices)), "none waits while two share another"
        assert max(counts.values()) - min(counts[gpu] for gpu in devices) <= 1
        return
    assert 1 <= len(placed) <= cores
    assert max(counts.values()) <= MOST_ON_A_GPU
    if len(placed) > 1:
        assert all(count * trainer_bytes <= USED_SHARE * gpu.free_bytes for gpu, count in counts.items())
    # Nobody is left out without a reason: another one finds no core, no memory, or no use.
    if len(placed) < cores and trainer_bytes:
        rooms = [gpu for gpu in devices if (counts[gpu] + 1) * trainer_bytes <= USED_SHARE * gpu.free_bytes - 1]
        assert all(counts[gpu] == MOST_ON_A_GPU for gpu in rooms)
    # The number that was chosen, asked for where all are alike, leads to the same places.
    if len(set(free)) == 1:
        assert place_trainers(len(placed), devices, trainer_bytes=trainer_bytes, cores=cores) == placed


def test_trainers_on_a_processor_by_cores_and_memory() -> None:
    def count(available: int | None, cores: int = 8) -> int:
        return trainers_on_processor(available_bytes=available, trainer_bytes=GIB, cores=cores)

    assert [count(each) for each in (None, 100 * GIB, 5 * GIB, 0, -GIB)] == [8, 8, 4, 1, 1]
    assert count(100 * GIB, cores=1) == 1


def test_every_trainer_knows_its_gpu_its_sharers_and_its_compilers() -> None:
    devices = gpus(9, 9, 9)
    config = TrainerConfig(space=prepare(TINY).space, device="cuda", cache=Path("unused"), gpus=devices)
    own = [config.of_trainer(number, trainers=5, cores=16) for number in range(5)]
    assert [names(one.gpus) for one in own] == ["0", "1", "2", "0", "1"]
    assert [one.sharers for one in own] == [2, 2, 1, 2, 2]
    assert {one.compilers for one in own} == {3}
    # GPUs that differ in what is free have one entry a trainer.
    uneven = TrainerConfig(space=config.space, device="cuda", cache=Path("unused"), gpus=(*devices[:2], devices[1]))
    assert [uneven.of_trainer(number, trainers=3, cores=1).sharers for number in range(3)] == [1, 2, 2]
    alone = TrainerConfig(space=config.space, device="cpu", cache=Path("unused")).of_trainer(1, trainers=2, cores=4)
    assert (alone.gpus, alone.sharers, alone.compilers) == ((), 2, 2)
