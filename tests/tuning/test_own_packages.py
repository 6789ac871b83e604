"""A project that has a jobs/ or tuning/ of its own in the current folder keeps forkdiv working."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.stack import clean_environment

pytestmark = pytest.mark.stack

# -P: as the console script, which does not look for modules in the current folder
DRIVER = """
import ray
from forkdiv.core.config.study import PlaceConfig
from tuning.session import running

@ray.remote
def found():
    import jobs.study, tuning.space
    return jobs.study.__file__, tuning.space.__file__

with running(PlaceConfig(dashboard=False, num_cpus=4)):
    print(*ray.get(found.remote()))
"""


def test_workers_import_forkdivs_own_packages_whatever_the_current_folder_holds(
    tmp_path: Path,
) -> None:
    for name in ("jobs", "tuning"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text(f"raise ImportError('your own {name}')")
    done = subprocess.run(
        [sys.executable, "-P", "-c", DRIVER],
        cwd=tmp_path,
        env=clean_environment(),
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    root = Path(__file__).parents[2]
    files = [Path(one).resolve() for one in done.stdout.split()]
    assert files == [root / "jobs/study.py", root / "tuning/space.py"]
