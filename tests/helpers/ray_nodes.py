"""A Ray cluster on this machine in a process of its own: a head without processors, and two nodes with one each.

Prints the cluster's address, and a line for each line that it reads once the nodes have been lost and replaced; the
cluster ends with its input. Ray forks when it starts a node, which in a process with gRPC's threads may stand still.
"""

import sys

from ray.cluster_utils import Cluster


def joined(cluster):
    return [cluster.add_node(num_cpus=1) for _ in range(2)]


def main():
    said = sys.stdout
    sys.stdout = sys.stderr  # Ray's own lines
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
    try:
        nodes = joined(cluster)
        print(cluster.address, file=said, flush=True)
        for _ in sys.stdin:
            for node in nodes:
                cluster.remove_node(node, allow_graceful=False)
            nodes = joined(cluster)
            print("replaced", file=said, flush=True)
    finally:
        cluster.shutdown()


if __name__ == "__main__":
    main()
