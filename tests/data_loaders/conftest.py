import pytest
from file_server import served


@pytest.fixture(scope="session")
def _server(tmp_path_factory):
    with served(tmp_path_factory.mktemp("served")) as server:
        yield server


@pytest.fixture
def server(_server, tmp_path):
    """An HTTP server over this test's folder, well-behaved at first."""
    _server.folder = tmp_path
    _server.ranges, _server.cut, _server.status = True, 0, None
    _server.asked.clear()
    return _server
