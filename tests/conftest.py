"""Hypothesis: no deadlines on shared machines; where CI is set, the same examples every time."""

import os

from hypothesis import settings

settings.register_profile("default", deadline=None)
settings.register_profile("ci", deadline=None, derandomize=True)
settings.load_profile("ci" if os.environ.get("CI") else "default")

# Scripts that are run, not modules with examples: tests/test_benchmarks.py looks at them.
collect_ignore = ["benchmarks"]
