"""Imports only point down: core <- correctors | nn <- diagnostics | adapters <- pp <- command <- cli."""

import ast
import subprocess
import sys
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "batchfix"

# A module may import from its own part and from lower floors. Parts of one floor do not know each other.
FLOORS = {
    "exceptions": -2,
    "atomic": -1,
    "core": 0,
    "correctors": 1,
    "nn": 1,
    "diagnostics": 2,
    "adapters": 2,
    "datasets": 2,
    "pp": 3,
    "command": 4,
    "cli": 5,
    "__init__": 6,
    "__main__": 6,
}
HEAVY = {"torch", "anndata", "dask", "matplotlib", "jinja2", "polars"}
BANNED = {
    "exceptions": HEAVY | {"numpy", "pandas", "sklearn"},
    "atomic": HEAVY | {"numpy", "pandas", "sklearn"},
    "core": HEAVY | {"pandas", "sklearn"},
    "correctors": HEAVY,
    "datasets": HEAVY,
    "nn": HEAVY - {"torch"},
}


def part_of(module: str) -> str:
    """'batchfix.core.affine' -> 'core'; the package itself -> '__init__'."""
    pieces = module.split(".")
    return pieces[1] if len(pieces) > 1 else "__init__"


def imports(source: str, package: str) -> set[str]:
    """Every module that a file of the package names in an import, in full, wherever the import stands."""
    found = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            parents = package.split(".")
            base = parents[: len(parents) - node.level + 1] if node.level else []
            start = ".".join(base + ([node.module] if node.module else []))
            # `from batchfix import core` names a module, `from batchfix import ComBat` a noun of the package.
            modules = FLOORS if start == "batchfix" else {a.name for a in node.names if node.level and not node.module}
            found |= {f"{start}.{a.name}" if a.name in modules else start for a in node.names}
    return found


def faults(path: Path, root: Path) -> list[str]:
    """What a file imports and may not."""
    package = ".".join(["batchfix", *path.relative_to(root).parent.parts])
    part = part_of(package) if package != "batchfix" else path.stem
    if part not in FLOORS:
        return [f"{path.name} has no floor: give {part!r} one in FLOORS"]
    wrong = []
    for module in sorted(imports(path.read_text(encoding="utf-8"), package)):
        top, target = module.split(".")[0], part_of(module)
        if top in BANNED.get(part, set()):
            wrong.append(f"{part} may not import {top}")
        elif top == "batchfix" and target != part and FLOORS.get(target, 9) >= FLOORS[part]:
            wrong.append(f"{part} may not import {module}")
    return wrong


@pytest.mark.parametrize("path", sorted(PACKAGE.rglob("*.py")), ids=lambda p: str(p.relative_to(PACKAGE)))
def test_imports_point_down(path):
    assert faults(path, PACKAGE) == []


def rooms(part: Path) -> dict[str, set[str]]:
    """The folders and files right below a part, and which of the others each imports from."""
    found: dict[str, set[str]] = {}
    for path in part.rglob("*.py"):
        room = path.relative_to(part).parts[0].removesuffix(".py")
        inside = ".".join(["batchfix", *path.relative_to(part.parent).parent.parts])
        mine = f"batchfix.{part.name}."
        others = {m.split(".")[2] for m in imports(path.read_text(encoding="utf-8"), inside) if m.startswith(mine)}
        found.setdefault(room, set()).update(others - {room})
    names = set(found) - {"__init__"}
    return {room: others & names for room, others in found.items()}


def test_rooms_of_the_adapters_form_no_circle():
    order = list(TopologicalSorter(rooms(PACKAGE / "adapters")).static_order())
    assert order.index("sources") < order.index("streaming") < order.index("blocks")


@pytest.mark.parametrize(
    ("file", "line", "fault"),
    [
        ("core/a.py", "from batchfix.correctors import base", "core may not import batchfix.correctors"),
        ("core/a.py", "from ..correctors.base import x", "core may not import batchfix.correctors.base"),
        ("core/a.py", "from .. import cli", "core may not import batchfix.cli"),
        ("core/a.py", "from batchfix import ComBat", "core may not import batchfix"),
        ("core/a.py", "def f():\n    import pandas.api", "core may not import pandas"),
        ("nn/a.py", "from batchfix import correctors", "nn may not import batchfix.correctors"),
        ("correctors/a.py", "import batchfix.nn.renorm", "correctors may not import batchfix.nn.renorm"),
        ("correctors/a.py", "from torch import nn", "correctors may not import torch"),
        (
            "adapters/a.py",
            "from batchfix.diagnostics.report import x",
            "adapters may not import batchfix.diagnostics.report",
        ),
        ("pp.py", "from .cli import main", "pp may not import batchfix.cli"),
        ("command/a.py", "from ..cli import main", "command may not import batchfix.cli"),
        ("extra.py", "", "extra.py has no floor: give 'extra' one in FLOORS"),
    ],
)
def test_an_import_that_climbs_is_found(tmp_path, file, line, fault):
    path = tmp_path / file
    path.parent.mkdir(exist_ok=True)
    path.write_text(line)
    assert faults(path, tmp_path) == [fault]


@pytest.mark.parametrize(
    ("file", "line"),
    [
        ("core/a.py", "from . import affine\nfrom .affine import Affine\nfrom ..exceptions import BatchfixError"),
        ("correctors/a.py", "import pandas, sklearn.base\nfrom batchfix.core import affine"),
        ("adapters/a.py", "from batchfix.correctors import combat\nimport batchfix.nn, torch"),
        ("cli.py", "from . import datasets\nfrom .adapters.tables import read"),
        ("__init__.py", "from .correctors import ComBat"),
    ],
)
def test_an_import_that_points_down_is_left_alone(tmp_path, file, line):
    path = tmp_path / file
    path.parent.mkdir(exist_ok=True)
    path.write_text(line)
    assert faults(path, tmp_path) == []


def test_importing_the_package_imports_nothing_optional():
    code = f"import sys, batchfix; print(*sorted({HEAVY!r} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []


def test_without_what_is_optional_the_command_and_blocks_work(tmp_path):
    code = f"""
import sys
class NotInstalled:
    def find_spec(self, name, *_):
        if name.split(".")[0] in {HEAVY | {"h5py", "pyarrow", "zarr"}!r}:
            raise ModuleNotFoundError(name)
sys.meta_path.insert(0, NotInstalled())
import numpy as np
from batchfix import BatchCorrector, fit_blocks, transform_blocks
from batchfix.cli import main
X, batch = np.arange(12.0).reshape(6, 2), list("aabbcc")
model = fit_blocks(BatchCorrector(), X, batch=batch, block_rows=2)
transform_blocks(model, X, batch=batch, out="out.csv")
with open("in.csv", "w") as file:
    print("id,run,f1,f2", *(f"s{{k}},{{batch[k]}},{{X[k, 0]}},{{X[k, 1]}}" for k in range(6)), sep="\\n", file=file)
sys.exit(main(["correct", "in.csv", "-o", "fixed.csv", "--batch", "run", "--method", "location"]))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path, check=False)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "fixed.csv").exists()
