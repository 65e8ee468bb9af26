"""Tasks that do nothing, given away by HyperQueue (its PyPI package, server and worker in this process, no journal)."""

import argparse
import json
import os
import sys
import time


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--slots", type=int, default=1000, help="tasks that run at once")
    arguments = parser.parse_args()

    # Its server says what it likes on stdout; what we say goes where stdout was.
    lines = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)

    import hyperqueue
    from hyperqueue import Job, LocalCluster
    from hyperqueue.cluster import WorkerConfig

    with LocalCluster() as cluster:
        cluster.start_worker(WorkerConfig(cores=arguments.slots))
        client = cluster.client()
        version = getattr(hyperqueue, "__version__", "")
        print(json.dumps({"ready": True, "program": f"HyperQueue {version}".strip()}), file=lines, flush=True)
        for line in sys.stdin:
            count = int(line.split()[1])
            began = time.perf_counter()
            job = Job()
            for _ in range(count):
                job.program(["/bin/true"])
            submitted = client.submit(job)
            client.wait_for_jobs([submitted])
            seconds = time.perf_counter() - began
            print(json.dumps({"seconds": seconds, "images": count}), file=lines, flush=True)


if __name__ == "__main__":
    main()
