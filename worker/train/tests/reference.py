"""The other side of tests/torchvision.rs: the same network in PyTorch.

    reference.py make FOLDER     random weights, an input, and what torchvision makes of them
    reference.py load FOLDER     the probabilities of FOLDER/checkpoint.safetensors, loaded with strict=True
"""

import re
import sys
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torchvision.models import densenet121

CLASSES = 1000


def make(folder):
    torch.manual_seed(11)
    network = densenet121(num_classes=CLASSES)
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            # As after training: no two statistics alike, all of a trained network's size.
            torch.nn.init.uniform_(module.weight, 0.8, 1.2)
            torch.nn.init.normal_(module.bias, std=0.1)
            torch.nn.init.normal_(module.running_mean, std=0.1)
            torch.nn.init.uniform_(module.running_var, 0.8, 1.2)
    images = torch.randn(4, 3, 64, 64)
    labels = torch.tensor([3, 0, 999, 500])
    save_file(state(network), folder / "weights.safetensors")
    torch.save(network.state_dict(), folder / "zip.pth")
    torch.save(network.state_dict(), folder / "legacy.pth", _use_new_zipfile_serialization=False)
    torch.save(old_names(network.state_dict()), folder / "old-names.pth", _use_new_zipfile_serialization=False)
    network.eval()
    with torch.no_grad():
        save_file({"images": images, "logits": network(images)}, folder / "forward.safetensors")
    statistics(network, images, folder)
    train(network, images, labels, folder)


def state(network):
    return {name: tensor for name, tensor in network.state_dict().items() if "num_batches" not in name}


def old_names(tensors):
    """The names of the files that torchvision published: `norm.1` where the network has `norm1`."""
    pattern = re.compile(r"(denselayer\d+\.(?:norm|conv))(\d)\.")
    return {pattern.sub(r"\1.\2.", name): tensor for name, tensor in tensors.items()}


def upper(network):
    features = network.features
    return [features.denseblock4, features.norm5, network.classifier]


def statistics(network, images, folder):
    """BatchNorm's statistics after one batch that only the last block sees in training mode."""
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    for part in upper(network):
        part.train()
    with torch.no_grad():
        network(images)
    running = {name: tensor for name, tensor in state(network).items() if "running" in name}
    save_file({name: tensor.clone() for name, tensor in running.items()}, folder / "statistics.safetensors")
    network.load_state_dict(before)
    network.eval()


def train(network, images, labels, folder):
    """Adam on the last block, with BatchNorm in inference mode."""
    for parameter in network.parameters():
        parameter.requires_grad = False
    parameters = [parameter for part in upper(network) for parameter in part.parameters()]
    for parameter in parameters:
        parameter.requires_grad = True
    optimizer = torch.optim.Adam(parameters, lr=1e-3)
    losses = []
    for _ in range(4):
        optimizer.zero_grad()
        loss = torch.nn.functional.cross_entropy(network(images), labels)
        loss.backward()
        optimizer.step()
        losses.append(loss.detach())
    save_file(state(network) | {"losses": torch.stack(losses)}, folder / "trained.safetensors")


def load(folder):
    network = densenet121(num_classes=2)
    network.load_state_dict(load_file(folder / "checkpoint.safetensors"), strict=True)
    network.eval()
    with torch.no_grad():
        images = load_file(folder / "forward.safetensors")["images"]
        save_file({"probabilities": network(images).softmax(1)}, folder / "probabilities.safetensors")


if __name__ == "__main__":
    torch.set_num_threads(1)
    {"make": make, "load": load}[sys.argv[1]](Path(sys.argv[2]))
