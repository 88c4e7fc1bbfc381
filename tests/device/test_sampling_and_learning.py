"""Samplers, diffusion maps, basins and machine-learning measures on a device: the numbers of the CPU."""

from __future__ import annotations

import warnings

import pytest
import torch
from on_both import KINDS, close, gaussian_process, images, wells

import torchscape as tsc
from torchscape import learning, random, sampling
from torchscape.sampling import basins

SAMPLERS = {
    "SGLD": sampling.SGLD(0.01),
    "GLA1": sampling.GLA1(0.05),
    "GLA2": sampling.GLA2(0.05),
    "BAOAB": sampling.BAOAB(0.05),
    "BAOA": sampling.BAOA(0.05),
    "OBABO": sampling.OBABO(0.05),
    "ABOBA": sampling.ABOBA(0.05),
    "adaptive Langevin": sampling.AdaptiveLangevin(0.05),
    "HMC": sampling.HMC(0.05, n_leapfrog=3),
    "ensemble quasi-Newton": sampling.EnsembleQuasiNewton(0.02),
    "parallel tempering": sampling.ParallelTempering(sampling.BAOAB(0.05), (0.5, 1.0)),
}


def cloud(device, n: int = 40):
    return random.normal(random.fold(2, torch.arange(n, device=device)), 2)


def minima(potential):
    found = tsc.relax(potential, potential.sample(6, seed=2))
    return found.x


def sampled(sampler):
    def run(device):
        potential = wells(device)
        drawn = sampling.sample(potential, potential.sample(8, seed=1), sampler=sampler, steps=12, seed=3)
        assert drawn.x.device.type == torch.device(device).type
        return drawn.x

    return run


def diffusion(**options):
    def run(device):
        found = sampling.diffusion_map(cloud(device), n_functions=2, **options)
        return found.eigenvalues, found.functions.abs()

    return run


def classified(device):
    potential = KINDS["linear"](device)
    return potential, potential.sample(3, seed=1), images().to(device), (torch.arange(6) % 3).to(device)


def held_out(device):
    potential, x, inputs, labels = classified(device)
    return learning.held_out(potential, x, inputs, labels)


def flatness(device):
    potential, x, _, _ = classified(device)
    return learning.flatness(potential, x, n_top=2)


def robustness(device):
    potential, x, inputs, labels = classified(device)
    return learning.robustness(potential, x, inputs, labels, n_draws=2)


def planes(device):
    potential, x, _, _ = classified(device)
    plane, _ = learning.three_point_plane(x)
    surface = learning.plane_surface(potential, plane, (-1.0, 1.0, -1.0, 1.0), n=3)
    return surface.energy, learning.project(potential, plane, x), learning.interpolate(potential, x[:1], x[1:2])


def hessian_plane(device):
    potential, x, _, _ = classified(device)
    return learning.hessian_plane(potential, x[0]).origin


def predictive(device):
    potential, x, inputs, _ = classified(device)
    return learning.predictive(potential, x, inputs), learning.predictive_moments(potential, x, inputs)


def ensembles(device):
    potential, _, inputs, labels = classified(device)
    x = potential.sample(4, seed=1)
    energy = potential.energy(x)
    there = tsc.Network.of(energy, [(0, 1), (1, 2), (2, 3)], (energy.amax() + 1).expand(3), coords=x)
    report = learning.ensemble_report(
        potential, there, (inputs, labels), (inputs, labels), size=2, n_draws=2, n_bootstrap=20
    )
    return report.comparison


def gp_ensemble(device):
    potential = gaussian_process(device)
    x = torch.linspace(-1.9, 1.9, 4, dtype=torch.float64)
    test = x[:, None], (2 * x).sin()
    report = learning.gp_ensemble_report(
        potential, tuple(t.to(device) for t in test), n_starts=4, n_draws=4, n_bootstrap=20
    )
    return dict(report.landscape.foreseen)


def hyperparameters(device):
    potential = gaussian_process(device)
    drawn = learning.hyperparameter_hmc(potential, n_chains=2, steps=5, burn_in=5, sampler=None)
    return drawn.x


def boxed(device):
    """Wells whose basins end at walls."""
    walls = [(-2.0, 2.0)] * 2
    return tsc.FunctionPotential(lambda x: ((x**2 - 1) ** 2).sum() + 0.2 * x[0], 2, bounds=walls, device=device)


def volumes(device):
    potential = boxed(device)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", sampling.SamplingWarning)  # so few steps do not settle
        found = basins.basin_volumes(
            potential, minima(potential)[:1], n_force_constants=4, n_ladders=2, steps=8, burn_in=0, n_draws=4
        )
    return found.log_volume


def radial(device):
    potential = boxed(device)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", sampling.SamplingWarning)  # so few rays carry no volume
        return basins.radial_volume(
            potential, minima(potential)[0], basins.Quenched(), n_rays=8, n_bisections=6
        ).log_volume


def free_energy_profile(device):
    return sampling.free_energy_profile(cloud(device)[:, 0], bins=5, n_replicates=5)


def superposition(device):
    potential = wells(device)
    with tsc.Landscape.in_memory(potential) as landscape:
        tsc.explore(landscape, potential, strategies=[tsc.BasinHopping(walkers=6, hops=1)], progress=False)
        mixture = sampling.HarmonicMixture.of(potential, landscape.network(coords=True), temperature=0.1)
    return sampling.reweight(potential, mixture, 20).x


WHAT = {
    **{name: sampled(sampler) for name, sampler in SAMPLERS.items()},
    "diffusion map": diffusion(),
    "diffusion map with neighbours": diffusion(n_neighbours=10),
    "neighbours": lambda device: sampling.nearest_neighbours(cloud(device), 4),
    "principal directions": lambda device: sampling.principal_directions(cloud(device)).variances,
    "diagnosis": lambda device: sampling.r_hat(cloud(device).reshape(10, 4, 2)),
    "free energy": free_energy_profile,
    "superposition": superposition,
    "volumes": volumes,
    "radial volume": radial,
    "held-out": held_out,
    "flatness": flatness,
    "robustness": robustness,
    "planes": planes,
    "hessian plane": hessian_plane,
    "predictive": predictive,
    "ensembles": ensembles,
    "ensembles of Gaussian processes": gp_ensemble,
    "hyperparameters": hyperparameters,
}


DEAR = ("volumes", "ensembles of Gaussian processes")  # half a minute, and four minutes


@pytest.mark.parametrize(
    "what",
    [
        pytest.param(what, id=name, marks=pytest.mark.slow_on_stand_in if name in DEAR else ())
        for name, what in WHAT.items()
    ],
)
def test_the_same_on_both(what, device):
    close(what(device), what("cpu"), rtol=1e-5, atol=1e-7)


def test_the_command_line(device, tmp_path, capsys):
    from torchscape.cli import main

    db = str(tmp_path / "x.db")
    words = ["explore", "mueller-brown", "--db", db, "--walkers", "4", "--hops", "1", "--device", str(device)]
    assert main(words) == 0, capsys.readouterr().err
    assert main(["info", db]) == 0
    assert "minima" in capsys.readouterr().out
