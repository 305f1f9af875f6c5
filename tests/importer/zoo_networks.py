"""SpikingJelly's own networks, at full width and as small ones.

Those that are built from torchvision's blocks are imported with a stub in its place, see ``importer.libraries.zoo``.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from importer.libraries import spikingjelly, zoo
from torch import Tensor, nn


class Network(NamedTuple):
    """What makes a network, the step mode that it runs in, and the shape of one step's samples."""

    make: Callable[[], nn.Module]
    step_mode: str
    shape: tuple[int, ...]  # [batch, channels, height, width]

    def made(self) -> nn.Module:
        """Return the network, set to its step mode."""
        torch.manual_seed(0)
        network = self.make()
        spikingjelly("functional").set_step_mode(network, self.step_mode)
        return network

    @property
    def run(self) -> Any:
        """What calls it on an example of all steps; None where it takes them at once."""
        return over_steps if self.step_mode == "s" else None


def over_steps(network: nn.Module, x: Tensor) -> Tensor:
    """Call a network of one step a call, and average what it gives."""
    return torch.stack([network(frame) for frame in x]).mean(0)


def plif(name: str, *, channels: int, spikes: str = "ParametricLIFNode", **given: Any) -> nn.Module:
    neuron = getattr(spikingjelly("neuron"), spikes)
    network: nn.Module = getattr(zoo("parametric_lif_net"), name)(channels=channels, spiking_neuron=neuron, **given)
    return network


def built(module: str, name: str, **given: Any) -> nn.Module:
    network: nn.Module = getattr(zoo(module), name)(spiking_neuron=spikingjelly("neuron").IFNode, **given)
    return network


IMAGES = (2, 3, 32, 32)
FULL: dict[str, Network] = {
    "mnist": Network(lambda: plif("MNISTNet", channels=128), "m", (2, 1, 28, 28)),
    "mnist-lif": Network(lambda: plif("MNISTNet", channels=128, spikes="LIFNode"), "m", (2, 1, 28, 28)),
    "fashion": Network(lambda: plif("FashionMNISTNet", channels=128), "m", (2, 1, 28, 28)),
    "fashion-steps": Network(lambda: plif("FashionMNISTNet", channels=128), "s", (2, 1, 28, 28)),
    "nmnist": Network(lambda: plif("NMNISTNet", channels=128), "m", (2, 2, 34, 34)),
    "nmnist-steps": Network(lambda: plif("NMNISTNet", channels=128), "s", (2, 2, 34, 34)),
    "cifar10": Network(lambda: plif("CIFAR10Net", channels=256), "m", IMAGES),
    "cifar10-dvs": Network(lambda: plif("CIFAR10DVSNet", channels=128), "m", (2, 2, 128, 128)),
    "dvs-gesture": Network(lambda: plif("DVSGestureNet", channels=128), "m", (2, 2, 128, 128)),
    "vgg11": Network(lambda: built("spiking_vgg", "spiking_vgg11"), "m", IMAGES),
    "vgg11-bn": Network(lambda: built("spiking_vgg", "spiking_vgg11_bn"), "m", IMAGES),
    "sew-resnet18": Network(lambda: built("sew_resnet", "sew_resnet18", cnf="ADD"), "m", IMAGES),
    "sew-resnet50": Network(lambda: built("sew_resnet", "sew_resnet50", cnf="ADD"), "m", IMAGES),
    "resnet18": Network(lambda: built("spiking_resnet", "spiking_resnet18"), "m", IMAGES),
}


def small_vgg(*, batch_norm: bool) -> nn.Module:
    """Return a VGG of 8 and 16 channels; its class gives every one a classifier of 512 channels, which is replaced."""
    neuron, layer = spikingjelly("neuron"), spikingjelly("layer")
    cfg = [8, "M", 8, "M", 16, 16, "M", 16, 16, "M", 16, 16, "M"]
    network = built("spiking_vgg", "SpikingVGG", cfg=cfg, batch_norm=batch_norm, init_weights=False)
    network.classifier = nn.Sequential(
        *(layer.Linear(16 * 7 * 7, 64), neuron.IFNode(), layer.Dropout()),
        *(layer.Linear(64, 48), neuron.IFNode(), layer.Dropout(), layer.Linear(48, 10)),
    )
    return network


def narrowed(network: nn.Module, factor: int) -> nn.Module:
    """Keep every ``factor``-th channel of a residual network, whose class has no argument for that."""
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            image = module.in_channels == 3
            module.weight.data = module.weight.data[::factor, :: 1 if image else factor].clone()
        elif isinstance(module, nn.Linear):
            module.weight.data = module.weight.data[:, ::factor].clone()
        elif isinstance(module, nn.BatchNorm2d):
            for values in (module.weight, module.bias, module.running_mean, module.running_var):
                assert values is not None
                values.data = values.data[::factor].clone()
    return network


def small_resnet(module: str, kind: str, block: str, layers: list[int], **given: Any) -> nn.Module:
    network = built(module, kind, block=getattr(zoo(module), block), layers=layers, num_classes=10, **given)
    return narrowed(network, 8)


SMALL: dict[str, Network] = {
    "mnist": Network(lambda: plif("MNISTNet", channels=8), "m", (2, 1, 28, 28)),
    "fashion-steps": Network(
        lambda: plif("FashionMNISTNet", channels=8, init_tau=1.7, decay_input=False), "s", (2, 1, 28, 28)
    ),
    "nmnist": Network(lambda: plif("NMNISTNet", channels=8, v_reset=None), "m", (2, 2, 34, 34)),
    "nmnist-lif-steps": Network(lambda: plif("NMNISTNet", channels=8, spikes="LIFNode"), "s", (2, 2, 34, 34)),
    "cifar10": Network(lambda: plif("CIFAR10Net", channels=8), "m", IMAGES),
    "cifar10-dvs": Network(lambda: plif("CIFAR10DVSNet", channels=8), "m", (2, 2, 128, 128)),
    "dvs-gesture": Network(lambda: plif("DVSGestureNet", channels=8), "m", (2, 2, 128, 128)),
    "vgg11": Network(lambda: small_vgg(batch_norm=False), "m", IMAGES),
    "vgg11-bn": Network(lambda: small_vgg(batch_norm=True), "m", IMAGES),
    "sew-resnet18": Network(
        lambda: small_resnet("sew_resnet", "SEWResNet", "BasicBlock", [2, 2, 2, 2], cnf="ADD"), "m", IMAGES
    ),
    "sew-resnet50": Network(
        lambda: small_resnet("sew_resnet", "SEWResNet", "Bottleneck", [3, 4, 6, 3], cnf="ADD"), "m", IMAGES
    ),
    "resnet18": Network(
        lambda: small_resnet("spiking_resnet", "SpikingResNet", "BasicBlock", [2, 2, 2, 2]), "m", IMAGES
    ),
}
