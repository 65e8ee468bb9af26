"""Epochs of one arm with everything below a boundary frozen, as a plain PyTorch script trains it.

It does what such scripts do: frozen parameters need no gradient, frozen BatchNorm is in inference mode, and every epoch
runs the whole network again.
"""

import json

import common
import packed


def main():
    parser = common.arguments(__doc__)
    parser.add_argument("--weights", required=True)
    parser.add_argument("--data", required=True)
    parser.add_argument("--orders", required=True, help="JSON: the order of samples in each epoch")
    parser.add_argument("--batch", type=int, required=True)
    parser.add_argument("--lr", type=float, required=True)
    parser.add_argument("--trainable", required=True, choices=["head", "denseblock4"])
    parser.add_argument("--fused", action="store_true", help="the fused Adam")
    options = parser.parse_args()

    import torch

    common.prepare(options)
    pixels, labels, _ = packed.read(options.data)
    with open(options.orders) as file:
        orders = [torch.tensor(order) for order in json.load(file)]
    model = common.network(options)
    trained = [model.classifier]
    if options.trainable == "denseblock4":
        trained += [model.features.denseblock4, model.features.norm5]
    model.requires_grad_(False).eval()
    for part in trained:
        part.requires_grad_(True).train()
    parameters = [parameter for part in trained for parameter in part.parameters()]
    optimizer = common.optimizer(parameters, options)

    def step(samples):
        images = packed.normalised(pixels[samples]).to(memory_format=common.memory_format(options))
        optimizer.zero_grad(set_to_none=True)
        with common.autocast(options):
            loss = torch.nn.functional.cross_entropy(model(images), labels[samples])
        loss.backward()
        optimizer.step()
        return loss.item() * len(samples)

    epoch = 0

    def work(epochs):
        nonlocal epoch
        losses, images = [], 0
        for _ in range(epochs):
            order = orders[epoch % len(orders)]
            losses.append(sum(step(samples) for samples in order.split(options.batch)) / len(order))
            images += len(order)
            epoch += 1
        return {"images": images, "backbone_samples": images, "losses": losses}

    warm_up = work(options.warm_up)
    common.serve(options, work, {"losses": warm_up["losses"]})


if __name__ == "__main__":
    main()
