"""The package's own modules take less than 50 ms to import."""

import os
import re
import subprocess
import sys

# "import time:   self [us] | cumulative | imported package", the name indented by its depth.
LINE = re.compile(r"import time:\s*(\d+) \|\s*\d+ \|\s*batchfix(?:\.\S+)?$", re.MULTILINE)


def own_milliseconds(cache):
    command = [sys.executable, "-X", "importtime", "-c", "import batchfix"]
    # an installed package is compiled, whatever this environment says of writing bytecode
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
    environment["PYTHONPYCACHEPREFIX"] = str(cache)
    report = subprocess.run(command, capture_output=True, text=True, check=True, env=environment).stderr
    times = [int(found) for found in LINE.findall(report)]
    assert times, f"no line of batchfix in:\n{report}"
    return sum(times) / 1000


def test_importing_the_package_is_quick(tmp_path):
    # The first run compiles; the best of the rest is what the package itself costs.
    assert min(own_milliseconds(tmp_path) for _ in range(4)) < 50
