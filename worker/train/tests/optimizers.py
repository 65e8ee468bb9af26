"""The other side of tests/optimizers.rs: the same small network, trained by torch.optim.

    optimizers.py CASES.json FOLDER     FOLDER/NAME.safetensors with each step's parameters, rates and losses

A case is a name, a float type, the settings of an `Optimization`, the schedule of a stage and its length.
"""

import json
import sys
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn


class Network(torch.nn.Module):
    """`tanh` between two linear layers, with a scale in between that counts as a norm's."""

    def __init__(self, start, dtype):
        super().__init__()
        self.names = ["first.weight", "scale", "second.weight", "second.bias"]
        tensors = [torch.nn.Parameter(start[name].to(dtype, copy=True)) for name in self.names]
        self.tensors = torch.nn.ParameterList(tensors)

    def forward(self, inputs):
        first, scale, second, bias = self.tensors
        return torch.tanh(inputs @ first.T) * scale @ second.T + bias


def groups(network, settings, lr):
    """One group for each tensor; the first two belong to the block below the head."""
    below = [1, 1, 0, 0]
    return [
        {
            "params": [tensor],
            "lr": lr * settings["lr_decay_per_block"] ** below,
            "weight_decay": settings["weight_decay"]
            if tensor.dim() > 1 or settings["decay_norms_and_biases"]
            else 0.0,
        }
        for tensor, below in zip(network.tensors, below)
    ]


def optimizer(rule, groups):
    if rule["name"] == "sgd":
        keys = ["momentum", "dampening", "nesterov"]
        return torch.optim.SGD(groups, foreach=False, **{key: rule[key] for key in keys})
    kind = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW}[rule["name"]]
    return kind(groups, betas=rule["betas"], eps=rule["epsilon"], foreach=False)


def scheduler(optimizer, told, epochs, steps):
    """What to call after each step, with the number of steps made. A schedule that moves from epoch to epoch begins
    after the warm-up, and is told the end of each of its epochs."""
    name, warm_up = told["name"], told["warm_up"]
    if name == "one-cycle":
        cycle = torch.optim.lr_scheduler.OneCycleLR(
            optimizer,
            max_lr=[group["lr"] for group in optimizer.param_groups],
            total_steps=epochs * steps,
            pct_start=told["rise"],
            div_factor=told["start_divisor"],
            final_div_factor=told["end_divisor"],
            cycle_momentum=False,
        )
        return lambda _done: cycle.step()
    rising = warm_up * steps
    growth = None
    if rising > 0:
        growth = torch.optim.lr_scheduler.LinearLR(optimizer, 1 / rising, 1.0, total_iters=rising - 1)
    course = None

    def after(done):
        nonlocal course
        if done < rising:
            growth.step()
            return
        if course is None:
            course = of_epochs(optimizer, told, epochs - warm_up)
        if done > rising and done % steps == 0:
            course.step()

    if rising == 0:
        after(0)
    return after


def of_epochs(optimizer, told, epochs):
    schedulers = torch.optim.lr_scheduler
    return {
        "constant": lambda: schedulers.ConstantLR(optimizer, factor=1.0),
        "step": lambda: schedulers.StepLR(optimizer, told["every"], told["factor"]),
        "exponential": lambda: schedulers.ExponentialLR(optimizer, told["factor"]),
        "cosine": lambda: schedulers.CosineAnnealingLR(optimizer, epochs, told["minimum"]),
    }[told["name"]]()


def loss_of(logits, data, settings, mixed):
    """The mean loss; of mixed samples, each label's loss counts as much as its share."""
    if not mixed:
        return torch.nn.CrossEntropyLoss(**settings)(logits, data["labels"])
    own = data["shares"].to(logits.dtype)
    weight = torch.ones(logits.shape[1], dtype=logits.dtype) if settings["weight"] is None else settings["weight"]
    loss = torch.nn.CrossEntropyLoss(**settings, reduction="none")
    terms = [(own, data["labels"]), (1 - own, data["others"])]
    total = sum((share * loss(logits, labels)).sum() for share, labels in terms)
    return total / sum((share * weight[labels]).sum() for share, labels in terms)


def run(case, data, folder):
    dtype = {"f64": torch.float64, "f32": torch.float32}[case["float"]]
    settings = case["optimization"]
    network = Network(data, dtype)
    inputs = data["inputs"].to(dtype)
    moves = optimizer(settings["rule"], groups(network, settings, case["lr"]))
    schedule = scheduler(moves, case["schedule"], case["epochs"], case["steps"])
    average = None
    if settings["average"] is not None:
        average = AveragedModel(network, multi_avg_fn=get_ema_multi_avg_fn(settings["average"]))
    weights = settings["class_weights"]
    weights = None if weights == "none" else torch.tensor(weights, dtype=dtype)
    settings_of_loss = {"weight": weights, "label_smoothing": settings["label_smoothing"]}
    losses, rates, parameters, averages = [], [], [], []
    for step in range(case["epochs"] * case["steps"]):
        moves.zero_grad()
        loss = loss_of(network(inputs), data, settings_of_loss, case["mixed"])
        loss.backward()
        if settings["clip_norm"] is not None:
            torch.nn.utils.clip_grad_norm_(network.parameters(), settings["clip_norm"], foreach=False)
        rates.append(moves.param_groups[-1]["lr"])
        moves.step()
        schedule(step + 1)
        losses.append(loss.detach().double())
        parameters.append(flat(network))
        if average is not None:
            average.update_parameters(network)
            averages.append(flat(average.module))
    found = {
        "losses": torch.stack(losses),
        "rates": torch.tensor(rates, dtype=torch.float64),
        "parameters": torch.stack(parameters),
    }
    if averages:
        found["averages"] = torch.stack(averages)
    save_file(found, folder / f"{case['name']}.safetensors")


def flat(network):
    return torch.cat([tensor.detach().double().flatten() for tensor in network.tensors])


if __name__ == "__main__":
    torch.set_num_threads(1)
    folder = Path(sys.argv[2])
    data = load_file(folder / "data.safetensors")
    for case in json.loads(Path(sys.argv[1]).read_text()):
        run(case, data, folder)
