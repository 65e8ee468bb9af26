"""The other side of tests/torchvision.rs and tests/gradients.rs: the same networks in PyTorch.

    reference.py make ARCH FOLDER    random weights, an input, and what torchvision makes of them
    reference.py load ARCH FOLDER    the probabilities of FOLDER/checkpoint.safetensors, loaded with strict=True
    reference.py grads ARCH FOLDER CASE...
                                     gradients and BatchNorm statistics of one batch, for each CASE, which is
                                     FIRST-MODE-FLOAT-LAYOUT: block4-training-f64-nchw, stem-inference-f32-nhwc
    reference.py steps ARCH FOLDER   losses of 20 steps of Adam on everything, in double precision
"""

import re
import sys
from pathlib import Path

import torch
import torchvision.models
from safetensors.torch import load_file, save_file

CLASSES = 1000
LABELS = [3, 0, 999, 500]
FLOATS = {"f64": torch.float64, "f32": torch.float32}
LAYOUTS = {"nchw": torch.contiguous_format, "nhwc": torch.channels_last}


def build(arch, classes):
    return getattr(torchvision.models, arch)(num_classes=classes)


def make(arch, folder):
    torch.manual_seed(11)
    network = build(arch, CLASSES)
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            # As after training: no two statistics alike, all of a trained network's size.
            torch.nn.init.uniform_(module.weight, 0.8, 1.2)
            torch.nn.init.normal_(module.bias, std=0.1)
            torch.nn.init.normal_(module.running_mean, std=0.1)
            torch.nn.init.uniform_(module.running_var, 0.8, 1.2)
            if arch == "resnet50":
                # What is added up along the short cuts stays of one size.
                module.weight.data *= 0.5
    images = torch.randn(4, 3, 64, 64)
    save_file(state(network), folder / "weights.safetensors")
    torch.save(network.state_dict(), folder / "zip.pth")
    torch.save(network.state_dict(), folder / "legacy.pth", _use_new_zipfile_serialization=False)
    torch.save(old_names(network.state_dict()), folder / "old-names.pth", _use_new_zipfile_serialization=False)
    network.eval()
    with torch.no_grad():
        save_file({"images": images, "logits": network(images)}, folder / "forward.safetensors")


def state(network):
    return {name: tensor for name, tensor in network.state_dict().items() if "num_batches" not in name}


def old_names(tensors):
    """The names of the files that torchvision published: `norm.1` where the network has `norm1`."""
    pattern = re.compile(r"(denselayer\d+\.(?:norm|conv))(\d)\.")
    return {pattern.sub(r"\1.\2.", name): tensor for name, tensor in tensors.items()}


def parts(network):
    """The modules of stem, block1 to block4 and head."""
    if hasattr(network, "fc"):
        blocks = [[network.layer1], [network.layer2], [network.layer3], [network.layer4]]
        return [[network.conv1, network.bn1], *blocks, [network.fc]]
    features = network.features
    transitions = [features.transition1, features.transition2, features.transition3, features.norm5]
    blocks = [features.denseblock1, features.denseblock2, features.denseblock3, features.denseblock4]
    joined = [[block, after] for block, after in zip(blocks, transitions)]
    return [[features.conv0, features.norm0], *joined, [network.classifier]]


def prepare(arch, folder, first, mode, dtype, layout=torch.contiguous_format):
    """The network, of which the parts from `first` on are trained in `mode`; and the batch."""
    network = build(arch, CLASSES)
    network.load_state_dict(load_file(folder / "weights.safetensors"), strict=False)
    network.to(dtype).to(memory_format=layout).eval()
    order = ["stem", "block1", "block2", "block3", "block4", "head"]
    for name, modules in zip(order, parts(network)):
        for module in modules:
            trained = order.index(name) >= order.index(first)
            module.train(trained and mode == "training")
            for parameter in module.parameters():
                parameter.requires_grad = trained
    images = load_file(folder / "forward.safetensors")["images"].to(dtype)
    return network, images.to(memory_format=layout), torch.tensor(LABELS)


def grads(arch, folder, *cases):
    for case in cases:
        first, mode, float_name, layout = case.split("-")
        network, images, labels = prepare(arch, folder, first, mode, FLOATS[float_name], LAYOUTS[layout])
        loss = torch.nn.functional.cross_entropy(network(images), labels)
        loss.backward()
        found = {"loss": loss.detach().double().reshape(1)}
        for name, parameter in network.named_parameters():
            if parameter.grad is not None:
                found[f"{name}.gradient"] = parameter.grad.double()
        found |= {name: tensor.double() for name, tensor in state(network).items() if "running" in name}
        network.eval()
        with torch.no_grad():
            found["logits"] = network(images).double()
        found = {name: tensor.contiguous() for name, tensor in found.items()}
        save_file(found, folder / f"{case}.safetensors")


def steps(arch, folder):
    network, images, labels = prepare(arch, folder, "stem", "training", torch.float64)
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-3)
    losses = []
    for _ in range(20):
        optimizer.zero_grad()
        loss = torch.nn.functional.cross_entropy(network(images), labels)
        loss.backward()
        optimizer.step()
        losses.append(loss.detach())
    save_file({"losses": torch.stack(losses)}, folder / "steps.safetensors")


def load(arch, folder):
    network = build(arch, 2)
    network.load_state_dict(load_file(folder / "checkpoint.safetensors"), strict=True)
    network.eval()
    with torch.no_grad():
        images = load_file(folder / "forward.safetensors")["images"]
        save_file({"probabilities": network(images).softmax(1)}, folder / "probabilities.safetensors")


if __name__ == "__main__":
    torch.set_num_threads(1)
    what, arch, folder, *cases = sys.argv[1:]
    {"make": make, "load": load, "grads": grads, "steps": steps}[what](arch, Path(folder), *cases)
