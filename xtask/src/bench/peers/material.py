"""What both sides of a benchmark read: weights and images that are random but equal, and JPEG files."""

import argparse
import pathlib


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    weights = commands.add_parser("weights", help="DenseNet121 with two classes, as torchvision initialises it")
    weights.add_argument("--seed", type=int, default=0)
    weights.add_argument("--output", required=True)
    images = commands.add_parser("images", help="normally distributed images and random labels")
    images.add_argument("--seed", type=int, default=0)
    images.add_argument("--count", type=int, required=True)
    images.add_argument("--size", type=int, required=True)
    images.add_argument("--output", required=True)
    jpegs = commands.add_parser("jpegs", help="PNG files of a tree as JPEG files in a tree of the same form")
    jpegs.add_argument("--source", required=True)
    jpegs.add_argument("--output", required=True)
    options = parser.parse_args()
    globals()[options.command](options)


def weights(options):
    import safetensors.torch
    import torch
    import torchvision

    torch.manual_seed(options.seed)
    state = torchvision.models.densenet121(num_classes=2).state_dict()
    state = {name: tensor for name, tensor in state.items() if not name.endswith("num_batches_tracked")}
    safetensors.torch.save_file(state, options.output)


def images(options):
    import safetensors.torch
    import torch

    generator = torch.Generator().manual_seed(options.seed)
    pixels = torch.randn(options.count, 3, options.size, options.size, generator=generator)
    labels = torch.randint(0, 2, (options.count,), generator=generator)
    safetensors.torch.save_file({"images": pixels, "labels": labels}, options.output)


def jpegs(options):
    from PIL import Image

    source = pathlib.Path(options.source)
    for path in sorted(source.rglob("*.png")):
        target = pathlib.Path(options.output) / path.relative_to(source).with_suffix(".jpeg")
        target.parent.mkdir(parents=True, exist_ok=True)
        Image.open(path).save(target, quality=90)


if __name__ == "__main__":
    main()
