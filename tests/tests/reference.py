"""Loads a fetched checkpoint into torchvision's densenet121, predicts the test split with it, and compares with the
predictions that the trainer stored. Reads the store's objects itself: nothing of ceteris is used.

usage: reference.py CHECKPOINT STORE
"""

import json
import pathlib
import sys

import numpy
import safetensors
import safetensors.torch
import torch
import torchvision

checkpoint, store = sys.argv[1:]
objects = [path for path in pathlib.Path(store, "blobs").rglob("*") if path.is_file()]


def json_objects():
    for path in objects:
        try:
            yield json.loads(path.read_bytes())
        except ValueError:
            pass


(manifest,) = [document for document in json_objects() if document.get("schema") == "ceteris.dataset/1"]
test = [index for index, sample in enumerate(manifest["samples"]) if sample["split"] == "test"]
size = manifest["image_size"]
shards = {path.name: path for path in objects}
pixels = b"".join(shards[shard["digest"].removeprefix("sha256:")].read_bytes() for shard in manifest["shards"])
pixels = numpy.frombuffer(pixels, numpy.uint8).reshape(-1, size, size)[test]

stored = []
for path in objects:
    try:
        tensors = safetensors.torch.load_file(path)
    except safetensors.SafetensorError:
        continue
    if "probability" in tensors and tensors["sample"].tolist() == test:
        stored.append(tensors["probability"])
(stored,) = stored

model = torchvision.models.densenet121(num_classes=len(manifest["classes"])).eval()
model.load_state_dict(safetensors.torch.load_file(checkpoint), strict=True)
images = torch.from_numpy(pixels.astype(numpy.float32))[:, None].expand(-1, 3, -1, -1) / 255
mean = torch.tensor([0.485, 0.456, 0.406])[:, None, None]
deviation = torch.tensor([0.229, 0.224, 0.225])[:, None, None]
with torch.no_grad():
    ours = torch.softmax(model((images - mean) / deviation), 1)
difference = (ours - stored).abs().max().item()
if difference > 1e-4:
    sys.exit(f"probabilities differ by {difference}")
if stored.std(0).min().item() == 0:
    sys.exit("all predictions are the same, so their agreement shows nothing")
print(f"{len(test)} predictions agree")
