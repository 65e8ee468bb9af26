"""Tasks that do nothing, given away by HyperQueue (its PyPI package, server and worker in this process, no journal)."""

import argparse
import json
import sys
import time


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--slots", type=int, default=1000, help="tasks that run at once")
    arguments = parser.parse_args()

    import hyperqueue
    from hyperqueue import Job, LocalCluster
    from hyperqueue.cluster import WorkerConfig

    with LocalCluster() as cluster:
        cluster.start_worker(WorkerConfig(cores=arguments.slots))
        client = cluster.client()
        version = getattr(hyperqueue, "__version__", "")
        print(json.dumps({"ready": True, "program": f"HyperQueue {version}".strip()}), flush=True)
        for line in sys.stdin:
            count = int(line.split()[1])
            began = time.perf_counter()
            job = Job()
            for _ in range(count):
                job.program(["/bin/true"])
            submitted = client.submit(job)
            client.wait_for_jobs([submitted])
            seconds = time.perf_counter() - began
            print(json.dumps({"seconds": seconds, "images": count}), flush=True)


if __name__ == "__main__":
    main()
