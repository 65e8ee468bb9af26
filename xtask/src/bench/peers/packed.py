"""Reads a packed data set. Images are decoded and in memory, which is the best case for a PyTorch script."""

import json
import pathlib


def read(directory):
    """All images as 8-bit grey `[n, size, size]`, their labels, and the manifest."""
    import numpy
    import torch

    directory = pathlib.Path(directory)
    manifest = json.loads((directory / "manifest.json").read_text())
    size = manifest["image_size"]
    shards = [numpy.fromfile(directory / f"shard-{i:04}", numpy.uint8) for i in range(len(manifest["shards"]))]
    pixels = torch.from_numpy(numpy.concatenate(shards)).reshape(len(manifest["samples"]), size, size)
    labels = torch.tensor([sample["class"] for sample in manifest["samples"]])
    return pixels, labels, manifest


def normalised(grey):
    """8-bit grey `[n, size, size]` as three channels with ImageNet's mean and deviation."""
    import torch

    mean = torch.tensor([0.485, 0.456, 0.406]).reshape(1, 3, 1, 1)
    deviation = torch.tensor([0.229, 0.224, 0.225]).reshape(1, 3, 1, 1)
    return (grey.unsqueeze(1).to(torch.float32).div_(255.0).expand(-1, 3, -1, -1) - mean) / deviation
