"""What every peer shares: the flags, the model, and the lines spoken with the harness (see ../mod.rs)."""

import argparse
import contextlib
import json
import sys
import time


def arguments(description):
    """A parser with the flags of every subject."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--threads", type=int, required=True)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--precision", default="fp32", choices=["fp32", "tf32", "bf16", "fp64"])
    parser.add_argument("--layout", default="auto", choices=["auto", "contiguous", "channels_last"])
    parser.add_argument("--deterministic", action="store_true")
    parser.add_argument("--compile", action="store_true", help="torch.compile the model")
    parser.add_argument("--warm-up", type=int, default=0)
    return parser


def prepare(options):
    """Threads, determinism and what fp32 means on a GPU, before anything is computed."""
    import torch

    torch.set_num_threads(options.threads)
    torch.backends.cuda.matmul.allow_tf32 = options.precision == "tf32"
    torch.backends.cudnn.allow_tf32 = options.precision == "tf32"
    if options.deterministic:
        torch.use_deterministic_algorithms(True)
        torch.backends.cudnn.benchmark = False
    else:
        torch.backends.cudnn.benchmark = options.device != "cpu"


def memory_format(options):
    import torch

    return torch.channels_last if options.layout == "channels_last" else torch.contiguous_format


def network(options):
    """torchvision's DenseNet121 with two classes and the given weights, on the device."""
    import safetensors.torch
    import torch
    import torchvision

    model = torchvision.models.densenet121(num_classes=2)
    missing, unexpected = model.load_state_dict(safetensors.torch.load_file(options.weights), strict=False)
    missing = [name for name in missing if not name.endswith("num_batches_tracked")]
    if missing or unexpected:
        raise SystemExit(f"{options.weights} does not fit: {missing[:3]} missing, {unexpected[:3]} unexpected")
    if options.precision == "fp64":
        model = model.double()
    model = model.to(options.device, memory_format=memory_format(options))
    return torch.compile(model) if options.compile else model


def images(options):
    """The first images of a file and their labels, resident on the device."""
    import safetensors.torch
    import torch

    tensors = safetensors.torch.load_file(options.images)
    pixels, labels = tensors["images"][: options.batch], tensors["labels"][: options.batch]
    if len(labels) < options.batch:
        raise SystemExit(f"{options.images} holds {len(labels)} images, and --batch is {options.batch}")
    if options.precision == "fp64":
        pixels = pixels.to(torch.float64)
    pixels = pixels.to(options.device).contiguous(memory_format=memory_format(options))
    return pixels, labels.to(options.device)


def autocast(options):
    """Mixed precision if asked for."""
    import torch

    if options.precision != "bf16":
        return contextlib.nullcontext()
    return torch.autocast(torch.device(options.device).type, dtype=torch.bfloat16)


def synchronize(options):
    if options.device != "cpu":
        import torch

        torch.cuda.synchronize()


def optimizer(parameters, options):
    import torch

    # PyTorch's default implementation, unless the benchmark asks for the fused one.
    return torch.optim.Adam(parameters, lr=options.lr, fused=True if options.fused else None)


def facts(options):
    import torch

    name = torch.cuda.get_device_name(options.device) if options.device != "cpu" else "cpu"
    return {
        "ready": True,
        "program": f"torch {torch.__version__}",
        "libtorch": torch.__version__,
        "threads": torch.get_num_threads(),
        "device": name,
        "precision": options.precision,
        "layout": "channels_last" if options.layout == "channels_last" else "contiguous",
    }


def serve(options, work, ready):
    """Prints the first line, then answers `go N` with what `work(N)` returns and the time that it took."""
    say({**facts(options), **ready})
    for line in sys.stdin:
        words = line.split()
        if len(words) != 2 or words[0] != "go":
            raise SystemExit(f"expected `go N`, not {line!r}")
        synchronize(options)
        start = time.perf_counter()
        answer = work(int(words[1]))
        synchronize(options)
        say({"seconds": time.perf_counter() - start, **answer})


def say(message):
    print(json.dumps(message), flush=True)
