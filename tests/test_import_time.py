"""The package's own modules take less than 50 ms to import."""

import re
import subprocess
import sys

# "import time:   self [us] | cumulative | imported package", the name indented by its depth.
LINE = re.compile(r"import time:\s*(\d+) \|\s*\d+ \|\s*batchfix(?:\.\S+)?$", re.MULTILINE)


def own_milliseconds():
    command = [sys.executable, "-X", "importtime", "-c", "import batchfix"]
    report = subprocess.run(command, capture_output=True, text=True, check=True).stderr
    times = [int(found) for found in LINE.findall(report)]
    assert times, f"no line of batchfix in:\n{report}"
    return sum(times) / 1000


def test_importing_the_package_is_quick():
    # The first run may compile; the best of three is what the package itself costs.
    assert min(own_milliseconds() for _ in range(3)) < 50
