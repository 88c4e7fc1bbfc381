"""Every test that is parametrised over devices, on the device; the names of those that fail."""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
import sys

from gpu.common import arguments, record

_SECONDS = 135  # less than the part's own box, so that what was seen until then is written


def main() -> int:
    args = arguments(__doc__)
    command = [sys.executable, "-m", "pytest", "-v", "-p", "no:cacheprovider", "-W", "default", "--tb=short"]
    if importlib.util.find_spec("xdist") is not None and not args.small:
        command += ["-n", str(min(4, max(1, (os.cpu_count() or 2) // 2)))]
    command += ["tests/potentials/test_bessel.py", "-k", "cpu"] if args.small else ["tests", "-m", "cuda"]
    ran = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    try:
        output, _ = ran.communicate(timeout=_SECONDS)
        finished = True
    except subprocess.TimeoutExpired:
        ran.kill()
        output, _ = ran.communicate()
        finished = False
    print(output)
    seen = {
        word: len(re.findall(rf"\b{word}\b.*::|::.*\b{word}\b", output)) for word in ("PASSED", "FAILED", "ERROR")
    }
    failures = sorted(set(re.findall(r"^(?:FAILED|ERROR) (\S+::\S+)", output, re.MULTILINE)))
    record(
        args.json, args.device, finished=finished, passed=seen["PASSED"], failed=len(failures), failures=failures
    )
    if not seen["PASSED"]:
        print("no test passed")
    return int(not seen["PASSED"] or bool(failures) or not finished)


if __name__ == "__main__":
    sys.exit(main())
