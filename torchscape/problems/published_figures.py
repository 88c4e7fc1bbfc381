"""What the papers say of the landscapes of the problems: figures as data, to set beside our own."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

from torchscape.problems.publication import Published
from torchscape.problems.published_clusters import PUBLISHED_CLUSTERS

__all__ = ["PUBLISHED", "Published"]


_P = "A. J. Ballard et al., Phys. Chem. Chem. Phys. 19, 12585 (2017), doi 10.1039/c7cp01108c, "
_E = "M. P. Niroomand et al., Digital Discovery 3, 637 (2024), doi 10.1039/d3dd00204g, "
_S = "M. P. Niroomand, Some applications of energy landscapes in machine learning, slides (2023), "


def _several(
    figures: Mapping[str, float | int], source: str, setting: str = "", remark: str = ""
) -> tuple[Published, ...]:
    return tuple(Published(what, value, source, setting, remark) for what, value in figures.items())


_REGRESSION = _several(
    {
        "minima": 89,
        "transition states": 121,
        "edges": 113,
        "mean degree": 2.54,
        "mean shortest path": 6.0641,
        "diameter": 15,
    },
    _P + "IV",
    "100 points on [0, 3 pi], noise 0.02, sum of squares",
    "random numbers and the way of counting are not published; other noise gives 90 to 110 minima modulo all "
    "exact symmetries, and a mean shortest path of 5.8 to 7.6",
)

_TRIMER_COUNTS = tuple(
    one
    for hidden, minima, saddles in ((3, 162, 1504), (4, 2559, 10112), (5, 4752, 18779), (6, 19045, 34052))
    for one in _several(
        {"minima": minima, "transition states": saddles},
        _P + "III",
        f"{hidden} hidden nodes, r12, r13 and r23 as inputs",
        "l2 and the normalisation of the loss (mean or sum) are not published: no acceptance test",
    )
)

_TRIMER = (
    *_TRIMER_COUNTS,
    *(
        Published(
            "temperature of a heat-capacity peak",
            temperature,
            _P + "Fig. 3",
            "3 hidden nodes, biases not regularised",
            f"between {which}; an order of magnitude, which scales with the number of data",
        )
        for temperature, which in (
            (0.2, "the lowest two minima"),
            (9.0, "the lowest 124 minima"),
            (20.0, "minima up to the 153rd"),
        )
    ),
    Published(
        "area under the ROC curve",
        "near 1 close to convergence, flat beyond about 60 steps from it",
        _P + "Fig. 4",
        "r12 and r13 some steps from convergence, 5000 trimers each to train and test, l2 = 1e-4",
        "an independent calculation with 3 hidden nodes has 1.000 at 5 steps, 0.992 at 10, 0.977 at 15, "
        "then 0.7 to 0.8",
    ),
    Published(
        "AUC as the loss",
        "more minima and larger curvatures than with cross-entropy",
        "M. P. Niroomand et al., Mach. Learn.: Sci. Technol. 3, 015019 (2022), doi 10.1088/2632-2153/ac49a9",
        remark="qualitative",
    ),
)

_DIGITS = (
    *_several(
        {"minima": 142, "edges": 643, "mean degree": 9.06, "mean shortest path": 3.18, "diameter": 8},
        _P + "V",
        "784-10-10, 1000 images to train",
    ),
    Published("test error", (0.133, 0.162), _P + "V", "784-10-10, 1000 images to train", "mean 0.148, sd 0.0043"),
    Published(
        "loss of minima",
        (3.95, 4.30),
        _P + "Fig. 7",
        "l2 = 0.01 (0.1 in the text)",
        "these values suggest a sum over data in place of the mean: compare shapes. A single funnel",
    ),
)

PUBLISHED: dict[str, tuple[Published, ...]] = {
    "mueller-brown": tuple(
        Published(
            f"energy of a {kind}",
            energy,
            "K. Mueller and L. D. Brown, Theor. Chim. Acta 53, 75 (1979), doi 10.1007/BF00547608",
        )
        for kind, energies in (("minimum", (-146.700, -108.167, -80.768)), ("saddle", (-72.249, -40.665)))
        for energy in energies
    ),
    "rosenbrock": (
        Published(
            "minima",
            2,
            "Y.-W. Shang and Y.-H. Qiu, Evol. Comput. 14, 119 (2006), doi 10.1162/evco.2006.14.1.119",
            "4 to 30 dimensions",
            "one in two and three dimensions",
        ),
    ),
    **PUBLISHED_CLUSTERS,
    "regression": _REGRESSION,
    "trimer": _several(
        {"energy of the triangle": -2.185, "energy of the chain": -2.219}, _P + "III", "strength 2"
    ),
    "trimer-network": _TRIMER,
    "mnist": _DIGITS,
    "digits": tuple(
        dataclasses.replace(one, remark="other images: 28 x 28 pixels, MNIST") for one in _DIGITS[:-1]
    ),
    "p-spin": (
        Published(
            "energy per spin of minima",
            (-1.657, -1.633),
            _P + "VII",
            "p = 3, N = 50 to 100",
            "the band that minima concentrate in as N grows; trees become more frustrated and narrower. Minima by "
            "gradient descent, one realisation each, independently: N = 10 -1.206(61), 25 -1.468(106), "
            "50 -1.497(38), 100 -1.556(24)",
        ),
    ),
    "student-teacher": (
        Published(
            "energy where training stalls",
            0.016,
            _P + "Fig. 16",
            "equal and larger students, fully connected, halves of MNIST, no regularisation",
            "although zero exists; qualitative, the loss and the sizes are not published",
        ),
    ),
    "gp": (
        *(
            Published(
                "nu at which a minimum vanishes",
                interval,
                _S + "Fig. 2",
                "Matern kernel, Schwefel's function in 3 or 4 dimensions",
                "data set and bounds are not published",
            )
            for interval in ((2.0, 2.1), (3.4, 3.5))
        ),
        Published(
            "ensembles of minima",
            "better than the best single minimum, the more so the more minima there are",
            _S + "Fig. 4",
            "Schwefel's function in 3 and 4 dimensions",
            "qualitative",
        ),
    ),
    "kmeans": (
        Published(
            "choice of K",
            "the structure of the landscape indicates the appropriate number of clusters",
            _E + "5.4",
            "gene-expression data",
            "qualitative",
        ),
        Published(
            "organisation",
            "funnelled for every K, with very small barriers between almost all solutions; less so as K grows",
            "L. Dicks and D. J. Wales, J. Chem. Phys. 156, 054109 (2022), doi 10.1063/5.0078793",
            "Fisher's iris data",
            "qualitative",
        ),
    ),
}
