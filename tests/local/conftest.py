import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from thingscale.local.data_directory import SHARED
from thingscale.local.home import Home
from thingscale.local.servers import memory_folder


@pytest.fixture
def folder() -> Iterator[Path]:
    """Empty, and open to PostgreSQL's account, which pytest's own temporary folders are not."""
    path = Path(tempfile.mkdtemp(prefix="thingscale-test-", dir=memory_folder())).resolve()
    path.chmod(0o755)
    yield path
    shutil.rmtree(path)


@pytest.fixture
def closed_folder(folder: Path) -> Path:
    """No other account can pass through it."""
    path = folder / "closed"
    path.mkdir(mode=0o700)
    return path


@pytest.fixture
def outside() -> Iterator[list[Home]]:
    """Homes whose folders in /var/lib are removed afterwards."""
    homes: list[Home] = []
    yield homes
    for home in homes:
        shutil.rmtree(SHARED / home.key, ignore_errors=True)


@pytest.fixture
def as_root() -> None:
    if os.geteuid() != 0:
        pytest.skip("needs root")
