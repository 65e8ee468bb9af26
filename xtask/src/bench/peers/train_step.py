"""Training steps of DenseNet121, everything trainable, as a PyTorch script makes them."""

import common


def main():
    parser = common.arguments(__doc__)
    parser.add_argument("--weights", required=True)
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--images", help="safetensors; its first images are resident")
    source.add_argument("--folder", help="a folder of classes, read with ImageFolder")
    parser.add_argument("--workers", type=int, default=0, help="of the DataLoader, with --folder")
    parser.add_argument("--batch", type=int, required=True)
    parser.add_argument("--lr", type=float, default=1e-3)
    parser.add_argument("--fused", action="store_true", help="the fused Adam")
    options = parser.parse_args()

    import torch

    common.prepare(options)
    model = common.network(options).train()
    optimizer = common.optimizer(model.parameters(), options)
    batches = resident(options) if options.images else loaded(options)

    def step():
        pixels, labels = next(batches)
        optimizer.zero_grad(set_to_none=True)
        with common.autocast(options):
            loss = torch.nn.functional.cross_entropy(model(pixels), labels)
        loss.backward()
        optimizer.step()
        return loss.detach()

    def work(steps):
        # Losses are read at the end, so that a GPU is not made to wait at every step.
        losses = [step() for _ in range(steps)]
        return {"images": steps * options.batch, "losses": [loss.item() for loss in losses]}

    warm_up = work(options.warm_up)
    common.serve(options, work, {"losses": warm_up["losses"]})


def resident(options):
    batch = common.images(options)
    while True:
        yield batch


def loaded(options):
    import torch
    from torchvision import datasets, transforms

    transform = transforms.Compose(
        [
            transforms.RandomHorizontalFlip(),
            transforms.ToTensor(),
            transforms.Normalize((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
        ]
    )
    loader = torch.utils.data.DataLoader(
        datasets.ImageFolder(options.folder, transform),
        batch_size=options.batch,
        shuffle=True,
        drop_last=True,
        num_workers=options.workers,
        persistent_workers=options.workers > 0,
        pin_memory=options.device != "cpu",
    )
    if len(loader) == 0:
        raise SystemExit(f"{options.folder} holds fewer images than a batch of {options.batch}")
    while True:
        for pixels, labels in loader:
            pixels = pixels.to(options.device, non_blocking=True, memory_format=common.memory_format(options))
            yield pixels, labels.to(options.device, non_blocking=True)


if __name__ == "__main__":
    main()
