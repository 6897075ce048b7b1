"""A real Ray cluster of two nodes on this machine, started once."""

import pytest


@pytest.fixture(scope="session")
def cluster():
    from calib.execution.ray_session import import_ray

    import_ray()  # quietly
    from ray.cluster_utils import Cluster

    size = {"num_cpus": 1, "object_store_memory": 80 * 2**20}
    cluster = Cluster(initialize_head=True, head_node_args={**size, "include_dashboard": False})
    cluster.other = cluster.add_node(**size)
    yield cluster
    cluster.shutdown()
