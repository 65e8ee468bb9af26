"""Decoding and resizing a folder of images with torchvision, from files to 8-bit grey pixels."""

import common
import packed


def main():
    parser = common.arguments(__doc__)
    parser.add_argument("--folder", required=True)
    parser.add_argument("--image-size", type=int, required=True)
    parser.add_argument("--packed", required=True, help="what ceteris made of the folder, to compare with")
    parser.add_argument(
        "--decoder",
        default="pil",
        choices=["folder", "pil", "io"],
        help="folder: ImageFolder's own loader, PIL's resize, then grey; pil: grey from the beginning; "
        "io: torchvision.io and resize on tensors",
    )
    options = parser.parse_args()

    from torchvision import datasets

    common.prepare(options)
    loader = {"folder": as_folders, "pil": with_pil, "io": with_io}[options.decoder](options)
    folder = datasets.ImageFolder(options.folder, loader=loader)

    def work(passes):
        images = 0
        for _ in range(passes):
            for _pixels, _label in folder:
                images += 1
        return {"images": images}

    work(options.warm_up)
    common.serve(options, work, {"difference": difference(folder, options)})


def as_folders(options):
    """What a script does that names no loader: colour, whatever the file holds."""
    from torchvision import transforms
    from torchvision.datasets.folder import default_loader

    size = (options.image_size, options.image_size)
    transform = transforms.Compose([transforms.Resize(size), transforms.Grayscale(), transforms.PILToTensor()])
    return lambda path: transform(default_loader(path))


def with_pil(options):
    from PIL import Image
    from torchvision import transforms

    size = (options.image_size, options.image_size)
    transform = transforms.Compose([transforms.Grayscale(), transforms.Resize(size), transforms.PILToTensor()])

    def load(path):
        with Image.open(path) as image:
            return transform(image)

    return load


def with_io(options):
    from torchvision import io
    from torchvision.transforms import v2

    resize = v2.Resize((options.image_size, options.image_size), antialias=True)

    def load(path):
        return resize(io.decode_image(path, mode=io.ImageReadMode.GRAY))

    return load


def difference(folder, options):
    """The largest mean absolute difference of an image from what ceteris packed, in grey levels."""
    import pathlib

    import torch

    pixels, _, manifest = packed.read(options.packed)
    index = {sample["file"]: position for position, sample in enumerate(manifest["samples"])}
    largest = 0.0
    for (path, _), (image, _) in zip(folder.samples, folder):
        ours = pixels[index[pathlib.Path(path).relative_to(options.folder).as_posix()]].to(torch.int32)
        largest = max(largest, (image[0].to(torch.int32) - ours).abs().to(torch.float64).mean().item())
    if len(folder) != len(index):
        raise SystemExit(f"{options.packed} holds {len(index)} images, and {options.folder} {len(folder)}")
    return largest


if __name__ == "__main__":
    main()
