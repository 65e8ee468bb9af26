#!/bin/sh
# Measures ceteris on this machine's GPU beside the PyTorch that is installed here (torch 2.11 with CUDA, torchvision and
# safetensors for `python3`, or for the Python that CETERIS_REFERENCE_PYTHON names). It needs no network and no compiler;
# without a compiler only torch.compile is left out. Results are written to the folder `results` beside this file.
set -eu
cd "$(dirname "$0")"
exec ./ceteris-bench bench gpu --kit . --output results "$@"
