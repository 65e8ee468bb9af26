"""Loading a model and its optimizer with torch.load."""

import pathlib

import common


def main():
    parser = common.arguments(__doc__)
    parser.add_argument("--weights", required=True)
    parser.add_argument("--images", required=True)
    parser.add_argument("--batch", type=int, required=True)
    parser.add_argument("--scratch", required=True)
    parser.add_argument("--lr", type=float, default=1e-3)
    parser.add_argument("--fused", action="store_true", help="the fused Adam")
    options = parser.parse_args()

    import torch

    common.prepare(options)
    model = common.network(options).train()
    optimizer = common.optimizer(model.parameters(), options)
    pixels, labels = common.images(options)
    torch.nn.functional.cross_entropy(model(pixels), labels).backward()
    optimizer.step()
    path = pathlib.Path(options.scratch) / "state.pt"
    torch.save({"model": model.state_dict(), "optimizer": optimizer.state_dict()}, path)

    def work(loads):
        for _ in range(loads):
            torch.load(path)
        return {"loads": loads, "images": 0}

    work(options.warm_up)
    state = torch.load(path)
    names = [name for name, _ in model.named_parameters()]
    parameters = [state["model"][name] for name in names]
    moments = [moment["exp_avg"] for moment in state["optimizer"]["state"].values()]
    common.serve(options, work, {"bytes": path.stat().st_size, "norm": [norm(parameters), norm(moments)]})


def norm(tensors):
    return sum(tensor.double().square().sum().item() for tensor in tensors) ** 0.5


if __name__ == "__main__":
    main()
