"""Every example runs, as a script of its own, without a warning, and ends by saying what it found."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
# tests/nn runs those of the layers, and looks at their figures too
EXAMPLES = [path for path in sorted((ROOT / "examples").glob("*.py")) if not path.stem.startswith("nn_")]
NEEDS = {
    "lab_anndata": "anndata",
    "lab_anndata_sparse": "anndata",
    "lab_dask": "dask",
    "lab_picture": "matplotlib",
    "lab_torch_distributed": "torch",
    "markets_sector_neutral": "matplotlib",
}


def test_there_are_examples():
    assert EXAMPLES


def test_those_of_the_layers_run_beside_the_layers():
    tests = "".join(path.read_text(encoding="utf-8") for path in (ROOT / "tests" / "nn").glob("test_examples_*.py"))
    left_out = [path.stem for path in (ROOT / "examples").glob("nn_*.py") if f'"{path.stem}"' not in tests]
    assert not left_out


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_example(path, tmp_path):
    if path.stem in NEEDS:
        pytest.importorskip(NEEDS[path.stem])
    root = str(path.parent.parent)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([root, os.environ.get("PYTHONPATH", "")])}
    environment = {k: v for k, v in environment.items() if k not in ("DISPLAY", "WAYLAND_DISPLAY")}
    done = subprocess.run(
        [sys.executable, "-W", "error", str(path)],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip()
