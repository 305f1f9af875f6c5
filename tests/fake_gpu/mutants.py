"""Changes of single lines that make a GPU wait, fail or work more; each must be noticed."""

from __future__ import annotations

from dataclasses import dataclass

from fake_gpu.measuring import Edit


@dataclass(frozen=True, kw_only=True, slots=True)
class Mutant:
    """A line that is changed, the scenario that runs it, and a part of what must be said of it."""

    edit: Edit
    scenario: str
    said: str
    device: str = "cuda"
    space: str = "own"


def _mutant(file: str, old: str, new: str, **which: str) -> Mutant:
    return Mutant(edit=Edit(file=file, old=old, new=new), **which)


HOST = "takes a tensor of the host"
READ = "a number is read"
COPIED = "copy from cpu to cuda"
FAILS = "fails"

MUTANTS = {
    "order stays on the host": _mutant(
        "training/loader.py", "order if order is None else order.to(self.device)", "order",
        scenario="bf16 step", said=HOST,
    ),
    "loss is read in each step": _mutant(
        "training/loop.py", "scaler, teacher_logits=teacher_logits)", "scaler, teacher_logits=teacher_logits).item()",
        scenario="bf16 step", said=READ,
    ),
    "correct samples are counted on the host": _mutant(
        "training/evaluation.py", "dtype=torch.int64, device=split.device", "dtype=torch.int64",
        scenario="evaluated batch", said=FAILS,
    ),
    "teacher is asked with numbers of the host": _mutant(
        "training/loop.py", "numbers = -(-len(order) // recipe.batch_size), order.to(run.training.device)",
        "numbers = -(-len(order) // recipe.batch_size), order",
        scenario="supernet step", said=HOST,
    ),
    "rows of pixels lie on the host": _mutant(
        "training/augmentation.py", "torch.arange(size, device=cut.device)", "torch.arange(size)",
        scenario="float step", said=FAILS,
    ),
    "rows of pixels lie on the first GPU": _mutant(
        "training/augmentation.py", "torch.arange(size, device=cut.device)", 'torch.arange(size, device="cuda:0")',
        scenario="float step", said=FAILS, device="cuda:1",
    ),
    "batches are sent while the host waits": _mutant(
        "training/loader.py", "frames=frames.to(self.device, non_blocking=True)", "frames=frames.to(self.device)",
        scenario="float step", said=COPIED,
    ),
    "batches are sent from memory that is not page-locked": _mutant(
        "training/loader.py", "pin_memory=stream is not None", "pin_memory=False",
        scenario="float step", said=COPIED,
    ),
    "optimizer is not fused": _mutant(
        "training/optimizer.py", "fused = True if", "fused = None if",
        scenario="fp16 step", said=READ,
    ),
    "all samples are evaluated at once": _mutant(
        "training/loader.py", "evaluated_at_once(split.together.evaluation)", "len(split)",
        scenario="teacher", said="MiB",
    ),
    "skipped neurons are counted with ones of the host": _mutant(
        "snn/neuron/exact.py", "torch.ones(skipped.shape[4], device=skipped.device)", "torch.ones(skipped.shape[4])",
        scenario="evaluated batch", said=FAILS,
    ),
    "figures are added up on the host": _mutant(
        "snn/activity.py", "value.sum(dtype=torch.float64)", "value.sum(dtype=torch.float64).cpu()",
        scenario="evaluated batch", said="copy from cuda to cpu",
    ),
    "hits are listed": _mutant(
        "training/evaluation.py", "(logits.sum(dim=0).argmax(dim=1) == batch.labels).sum()",
        "(logits.sum(dim=0).argmax(dim=1) == batch.labels).nonzero().numel()",
        scenario="accuracy batch", said="DynamicOutputShape",
    ),
    "loss is copied once more": _mutant(
        "training/loop.py", "return loss.detach()", "return loss.detach().clone()",
        scenario="bf16 step", said="launches",
    ),
    "the host reads what a leak is to learn": _mutant(
        "snn/neuron/training.py", "if gradient is None else gradient.sum()",
        "if gradient is None else gradient.sum() * gradient.sum().item()",
        scenario="bf16 step", said=READ, space="forms",
    ),
}  # fmt: skip
