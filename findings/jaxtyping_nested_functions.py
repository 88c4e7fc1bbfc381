"""jaxtyping 0.3.11: its import hook decorates a function inside another at every call of the outer one."""

import importlib.metadata
import sys
import time
from pathlib import Path

import numpy as np

Path("checker.py").write_text("seen = []\n\n\ndef check(f):\n    seen.append(f.__qualname__)\n    return f\n")
Path("hooked.py").write_text(
    "from jaxtyping import Float\nimport numpy as np\n\n\n"
    "def outer(x: Float[np.ndarray, 'n']) -> float:\n"
    "    def inner(y: Float[np.ndarray, 'n']) -> float:\n        return float(y.sum())\n\n    return inner(x)\n"
)
sys.path.insert(0, ".")
from jaxtyping import install_import_hook  # noqa: E402

print("jaxtyping", importlib.metadata.version("jaxtyping"), "beartype", importlib.metadata.version("beartype"))
x, n = np.ones(3), 200
with install_import_hook("hooked", "checker.check"):
    import hooked
import checker  # noqa: E402

for _ in range(n):
    hooked.outer(x)
inner = sum("inner" in name for name in checker.seen)
print(f"the type checker was applied {inner} times to the inner function in {n} calls of the outer one")

del sys.modules["hooked"]
with install_import_hook("hooked", "beartype.beartype"):
    import hooked
began = time.process_time()
for _ in range(n):
    hooked.outer(x)
print(f"with beartype a call of the outer function takes {1e3 * (time.process_time() - began) / n:.2f} ms")
sys.exit(int(inner < n))
