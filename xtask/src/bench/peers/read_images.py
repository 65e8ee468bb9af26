"""One pass over a folder of images with torchvision's ImageFolder and a DataLoader: decode, flip, normalise."""

import common


def main():
    parser = common.arguments(__doc__)
    parser.add_argument("--folder", required=True)
    parser.add_argument("--batch", type=int, required=True)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()

    import torch
    from torchvision import datasets, transforms

    common.prepare(options)
    torch.manual_seed(options.seed)
    transform = transforms.Compose(
        [
            transforms.RandomHorizontalFlip(),
            transforms.ToTensor(),
            transforms.Normalize((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
        ]
    )
    # No worker processes: one core reads on both sides.
    loader = torch.utils.data.DataLoader(
        datasets.ImageFolder(options.folder, transform), batch_size=options.batch, shuffle=True, num_workers=0
    )

    def work(passes):
        images = 0
        for _ in range(passes):
            for pixels, _ in loader:
                images += len(pixels)
        return {"images": images}

    work(options.warm_up)
    common.serve(options, work, moments(loader))


def moments(loader):
    """Numbers of a pass that do not depend on order and flips."""
    import torch

    count, total, squares, rows = 0, 0.0, 0.0, 0.0
    for pixels, _ in loader:
        channel = pixels[:, 0].to(torch.float64)
        count += channel.numel()
        total += channel.sum().item()
        squares += channel.square().sum().item()
        rows += (channel.sum(dim=(0, 2)) * torch.arange(channel.shape[1])).sum().item()
    return {"mean": total / count, "mean_square": squares / count, "row_moment": rows / count}


if __name__ == "__main__":
    main()
