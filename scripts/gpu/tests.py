"""Every test that is parametrised over devices, on the device; the names of those that fail."""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
import sys

from gpu.common import arguments, record
from gpu.parts import LEFT_OUT

_SECONDS = 135  # less than the part's own box, so that what was seen until then is written
_SUMMARY = re.compile(r"^(?:FAILED|ERROR) (\S+)(?: - (.*))?$", re.MULTILINE)
_ABSENT = re.compile(r"No module named '([\w.]+)'|MissingExtra: (\S+) is needed")


def is_here(module: str) -> bool:
    return importlib.util.find_spec(module) is not None


def ended(output: str) -> tuple[int, list[str], dict[str, list[str]]]:
    """How many passed, which failed, and which could not run, by the package that is missing for them.

    Example:
        >>> ended("tests/a.py::b[cuda] PASSED\\nERROR tests/c.py - ModuleNotFoundError: No module named 'mpmath'")
        (1, [], {'mpmath': ['tests/c.py']})
    """
    passed = len(re.findall(r"\bPASSED\b.*::|::.*\bPASSED\b", output))
    failed, left_out = set(), {}
    for name, reason in _SUMMARY.findall(output):
        absent = _ABSENT.search(reason)
        package = (absent[1] or absent[2]).split(".")[0] if absent else None
        if package is None or is_here(package):
            failed.add(name)
        else:
            left_out.setdefault(package, []).append(name)
    return passed, sorted(failed), left_out


def main() -> int:
    args = arguments(__doc__)
    if not is_here("pytest"):
        print("pytest is missing: the device tests cannot run")
        return LEFT_OUT
    command = [sys.executable, "-m", "pytest", "-v", "-p", "no:cacheprovider", "-W", "default", "--tb=short"]
    command += ["--continue-on-collection-errors"]
    if is_here("xdist") and not args.small:
        command += ["-n", str(min(4, max(1, (os.cpu_count() or 2) // 2)))]
    command += ["tests/test_devices.py"] if args.small else ["tests", "-m", "cuda"]
    environment = {**os.environ, "COLUMNS": "300"}  # reasons are cut at the width of the screen
    if not is_here("beartype"):
        environment["TORCHSCAPE_SHAPES"] = "unchecked"
    ran = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment)
    try:
        output, _ = ran.communicate(timeout=_SECONDS)
        finished = True
    except subprocess.TimeoutExpired:
        ran.kill()
        output, _ = ran.communicate()
        finished = False
    print(output)
    passed, failures, left_out = ended(output)
    record(
        args.json,
        args.device,
        finished=finished,
        passed=passed,
        failed=len(failures),
        failures=failures,
        left_out=left_out,
    )
    if not passed:
        print("no test passed")
    return int(not passed or bool(failures) or not finished)


if __name__ == "__main__":
    sys.exit(main())
