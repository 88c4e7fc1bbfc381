"""How each program is set up, for each problem: as it is shipped, and tuned.

"shipped" changes nothing but the tolerance and what has no default. Every program is also run "tuned": with the
best of the settings tried by hand on the same problem (memory and step of the minimiser, springs, images and
iterations of the bands, tolerances of the eigenvector searches; about a dozen trials for each peer, a few for
torchscape). topsearch leaves most settings to its user: "shipped" are then those of its own examples. With "two
threads" torchscape has the second core of the machine, which the peers cannot use.
"""

from __future__ import annotations

from typing import Any

__all__ = ["SETTINGS", "TOLERANCE"]

TOLERANCE = {"regression": 1e-6, "network": 1e-7}  # of the RMS gradient, of minima and transition states

_EXAMPLE_MINIMA = {"step": 1.0, "proportional": True, "hops": 20, "temperature": 100.0, "restart": False}
_EXAMPLE_SADDLES = {
    "ts_steps": 75,
    "pushoff": 0.1,
    "follow": {},
    "band": {"force_constant": 50.0, "image_density": 10.0, "max_images": 20, "neb_conv_crit": 0.01},
}
_QUENCH = {"quench": {"M": 20, "maxstep": 0.5}}
_DEEP = {"quench": {"M": 60, "maxstep": 1.0}}

SETTINGS: dict[tuple[str, str], dict[str, dict[str, Any]]] = {
    ("regression", "minima"): {
        "torchscape shipped": {},
        "torchscape tuned": {"walkers": 640, "hops": 2, "step": 1.0, "temperature": 3.0},
        "torchscape tuned, two threads": {
            "walkers": 640,
            "hops": 2,
            "step": 1.0,
            "temperature": 3.0,
            "threads": 2,
        },
        "topsearch shipped": _EXAMPLE_MINIMA,
        "topsearch tuned": {**_EXAMPLE_MINIMA, "hops": 0, "restart": True},
        "pele shipped": {},
        "pele tuned": _QUENCH,
    },
    ("regression", "saddles"): {
        "torchscape shipped": {},
        "torchscape shipped, two threads": {"threads": 2},
        "topsearch shipped": _EXAMPLE_SADDLES,
        "topsearch tuned": {**_EXAMPLE_SADDLES, "follow": {"eigenvalue_conv_crit": 0.01}},
        "pele shipped": {},
        "pele tuned": {**_QUENCH, "neb": {"max_images": 12, "image_density": 5}},
    },
    ("network", "minima"): {
        "torchscape shipped": {},
        "torchscape tuned": {"walkers": 256, "hops": 1, "step": 4.0, "temperature": 1.0},
        "torchscape tuned, two threads": {
            "walkers": 256,
            "hops": 1,
            "step": 4.0,
            "temperature": 1.0,
            "threads": 2,
        },
        "topsearch shipped": {**_EXAMPLE_MINIMA, "proportional": False},
        "topsearch tuned": {
            **_EXAMPLE_MINIMA,
            "proportional": False,
            "hops": 0,
            "restart": True,
            "lbfgs": {"memory": 60, "steps": 5000},
        },
        "pele shipped": {},
        "pele tuned": _DEEP,
    },
    ("network", "saddles"): {
        "torchscape shipped": {},
        "torchscape shipped, two threads": {"threads": 2},
        "topsearch shipped": _EXAMPLE_SADDLES,
        "topsearch tuned": {
            **_EXAMPLE_SADDLES,
            "follow": {"eigenvalue_conv_crit": 1e-4},
            "lbfgs": {"memory": 60, "steps": 2000},
            "band": {"force_constant": 0.01, "image_density": 10.0, "max_images": 15, "neb_conv_crit": 0.001},
        },
        "pele shipped": {},
        "pele tuned": {
            **_DEEP,
            "neb": {"max_images": 15, "k": 0.01, "iter_density": 5},
            "search": {
                "tangentSpaceQuenchParams": {"M": 60, "maxstep": 0.5},
                "lowestEigenvectorQuenchParams": {
                    "nsteps": 1000,
                    "M": 28,
                    "tol": 1e-6,
                    "dx": 1e-4,
                    "first_order": True,
                    "cpp_lbfgs": True,
                    "maxstep": 0.5,
                },
                "nsteps_tangent1": 30,
                "nsteps_tangent2": 500,
                "max_uphill_step": 1.0,
            },
        },
    },
}
