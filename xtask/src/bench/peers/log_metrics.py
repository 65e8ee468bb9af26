"""MLflow's log_batch on a SQLite file, in this process: no server is between."""

import argparse
import json
import os
import pathlib
import sys
import time

POINTS = 1000


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--scratch", required=True)
    options = parser.parse_args()

    # It asks the network for something otherwise, and waits for the answer.
    os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"
    os.environ["DO_NOT_TRACK"] = "true"
    import mlflow
    from mlflow import MlflowClient
    from mlflow.entities import Metric

    database = pathlib.Path(options.scratch) / "mlflow.db"
    database.unlink(missing_ok=True)
    client = MlflowClient(tracking_uri=f"sqlite:///{database}")
    run = client.create_run(client.create_experiment("bench")).info.run_id
    sent = 0

    def prepare(batches):
        nonlocal sent
        first, sent = sent, sent + batches
        batch = lambda index: range(index * POINTS, (index + 1) * POINTS)
        metric = lambda step: Metric("step_loss", value(step), 1_790_000_000_000 + step, step)
        return [[metric(step) for step in batch(index)] for index in range(first, sent)]

    def work(batches):
        for metrics in batches:
            client.log_batch(run, metrics=metrics)

    work(prepare(1))
    say({"ready": True, "program": f"mlflow {mlflow.__version__}", "points_per_batch": POINTS})
    for line in sys.stdin:
        words = line.split()
        if len(words) != 2 or words[0] != "go":
            raise SystemExit(f"expected `go N`, not {line!r}")
        batches = prepare(int(words[1]))
        start = time.perf_counter()
        work(batches)
        seconds = time.perf_counter() - start
        found = {(metric.step, metric.value) for metric in client.get_metric_history(run, "step_loss")}
        right = found == {(step, value(step)) for step in range(sent * POINTS)}
        say({"seconds": seconds, "images": int(words[1]) * POINTS, "right": right})


def value(step):
    return 1.0 / (1.0 + step / 7.0)


def say(message):
    print(json.dumps(message), flush=True)


if __name__ == "__main__":
    main()
