"""One evaluation, spread by samples over the processes of ``torch.distributed``."""

from __future__ import annotations

import contextlib
import copy
import dataclasses
import datetime
import sys
import traceback
from collections.abc import Callable, Iterator
from typing import Any

import torch

from torchscape.devices import HOST
from torchscape.errors import PotentialError, TorchscapeError
from torchscape.potentials.batching import Plan
from torchscape.potentials.module.evaluator import Evaluator
from torchscape.potentials.module.potential import ModulePotential
from torchscape.potentials.module.written import Written
from torchscape.types import Float, Tensor

__all__ = ["spread"]

_OVER, _ENERGY, _GRADIENT, _PRODUCT, _HESSIAN = range(5)
_PATIENCE = datetime.timedelta(days=30)  # between two evaluations the first process may do other things for long


@contextlib.contextmanager
def spread(potential: ModulePotential, *, group: Any = None) -> Iterator[ModulePotential | None]:
    """The same potential, of whose samples each process of ``torch.distributed`` evaluates a share.

    For data that make one evaluation long, or do not fit on one device. Every process builds the potential, on its
    own device, and enters the block. The first gets a potential to explore, with the fingerprint of the whole; the
    others evaluate their samples whenever it asks for something, until its block ends, and get None. Shares are
    added up on the host in the order of the processes, so that results do not depend on who is done first; they
    are those of one process up to rounding.

    Args:
        potential: with a loss that is a mean or a sum over samples.
        group: of ``torch.distributed``, whose backend moves tensors of the host ("gloo"); None for all processes.

    Raises:
        PotentialError: if the loss takes all samples at once, or there are fewer samples than processes.
        TorchscapeError: if ``torch.distributed`` is not initialised, or a process fails at its share.

    Example, for ``torchrun --nproc-per-node=4 my_run.py``::

        torch.distributed.init_process_group("gloo")
        model = build(device=f"cuda:{os.environ['LOCAL_RANK']}")
        with spread(model) as whole:
            if whole is not None:
                with tsc.Landscape.open("run.db", whole) as landscape:
                    tsc.explore(landscape, whole)
    """
    dist = torch.distributed
    if not dist.is_available() or not dist.is_initialized():
        raise TorchscapeError("spread: call torch.distributed.init_process_group('gloo') first, in every process")
    own = group is None
    group = dist.new_group(backend="gloo", timeout=_PATIENCE) if own else group
    evaluator = _share(potential, dist.get_rank(group), dist.get_world_size(group))
    team = _Team(group, potential, evaluator)
    try:
        if dist.get_rank(group) > 0:
            team.serve()
            yield None
            return
        whole = copy.copy(potential)
        whole._evaluator = _Spread(potential._evaluator, team)  # type: ignore[assignment]
        try:
            yield whole
        finally:
            team.end()
    finally:
        if own:
            dist.destroy_process_group(group)


def _share(potential: ModulePotential, rank: int, n: int) -> Evaluator:
    """The evaluator of one process's samples, without the regularisation."""
    whole = potential._evaluator
    samples = whole.objective.samples
    if whole.objective.reduction == "whole":
        raise PotentialError(
            "this loss takes all samples at once: only a mean or a sum over samples can be spread"
        )
    if len(samples) < n:
        raise PotentialError(f"{len(samples)} samples cannot be spread over {n} processes: start fewer")
    mine = samples.take(torch.arange(rank * len(samples) // n, (rank + 1) * len(samples) // n))
    plan = dataclasses.replace(whole.plan, n_samples=len(mine))
    return dataclasses.replace(
        whole,
        objective=whole.objective.part(mine),
        plan=plan,
        decay=torch.zeros_like(whole.decay),
        written=Written(),
    )


class _Team:
    """What the processes say to each other: what to evaluate, and what has come of it."""

    def __init__(self, group: Any, potential: ModulePotential, evaluator: Evaluator) -> None:
        self.group, self.evaluator = group, evaluator
        self.device, self.dtype, self.ndim = potential.device, potential.dtype, potential.ndim
        self.first = torch.distributed.get_global_rank(group, 0)
        self.size, self.is_over = torch.distributed.get_world_size(group), False

    def ask(self, what: int, *rows: Tensor) -> Tensor:
        """Each row's energy, gradient, product or Hessian from all samples, on the host; as numbers in a row."""
        if self.is_over:
            raise TorchscapeError("this potential was spread over processes that have gone: its block has ended")
        self._send(torch.tensor([what, len(rows[0])]))
        rows = tuple(row.detach().to(HOST, self.dtype).contiguous() for row in rows)
        for row in rows:
            self._send(row)
        shares = self._collected(self._numbers(what, rows))
        assert shares is not None
        total = shares[0]
        for share in shares[1:]:
            total = total + share
        return total

    def serve(self) -> None:
        """Answer until it is over."""
        while True:
            what, n = self._send(torch.zeros(2, dtype=torch.int64)).tolist()
            if what == _OVER:
                return
            shape = (n, self.ndim)
            n_rows = 2 if what == _PRODUCT else 1
            rows = tuple(self._send(torch.empty(shape, dtype=self.dtype)) for _ in range(n_rows))
            self._collected(self._numbers(what, rows))

    def end(self) -> None:
        if not self.is_over:
            self.is_over = True
            self._send(torch.tensor([_OVER, 0]))

    def _send(self, tensor: Tensor) -> Tensor:
        torch.distributed.broadcast(tensor, self.first, group=self.group)
        return tensor

    def _numbers(self, what: int, rows: tuple[Tensor, ...]) -> Tensor | None:
        """This process's share; None if it fails."""
        there = [row.to(self.device) for row in rows]
        try:
            with torch.no_grad():
                if what == _ENERGY:
                    share = self.evaluator.energy(there[0])[:, None]
                elif what == _GRADIENT:
                    energy, grad = self.evaluator.energy_and_grad(there[0])
                    share = torch.cat([energy[:, None], grad], 1)
                elif what == _PRODUCT:
                    share = self.evaluator.hvp(*there)
                else:
                    share = self.evaluator.hessian(there[0]).flatten(1)
            return share.to(HOST).contiguous()
        except Exception:
            traceback.print_exc(file=sys.stderr)
            return None

    def _collected(self, share: Tensor | None) -> list[Tensor] | None:
        """The shares of all processes, in their order; None everywhere but in the first."""
        dist = torch.distributed
        width = torch.tensor([-1 if share is None else share.shape[1]])
        widths = [torch.zeros_like(width) for _ in range(self.size)]
        dist.all_gather(widths, width, group=self.group)
        if failed := [rank for rank, one in enumerate(widths) if int(one) < 0]:
            if dist.get_rank(self.group) > 0:
                return None
            raise TorchscapeError(f"process {failed[0]} of {self.size} failed at its samples: it has said why")
        assert share is not None
        shares = [torch.empty_like(share) for _ in range(self.size)] if dist.get_rank(self.group) == 0 else None
        dist.gather(share, shares, dst=self.first, group=self.group)
        return shares


class _Spread:
    """The evaluator of the first process: everything it does not know is asked of the whole's."""

    def __init__(self, whole: Evaluator, team: _Team) -> None:
        self._whole, self._team = whole, team
        self.second, self.vmapped = whole.second, whole.vmapped

    def __getattr__(self, name: str) -> Any:
        return getattr(self._whole, name)

    @property
    def plan(self) -> Plan:
        return self._whole.plan

    def energy(self, x: Float[Tensor, "B D"]) -> Float[Tensor, "B"]:
        if torch.is_grad_enabled() and x.requires_grad:
            return _Energy.apply(x, self)
        if not len(x):
            return x.new_zeros(0)
        return self._team.ask(_ENERGY, x)[:, 0].to(x) + (self._whole.decay * x**2).sum(1)

    def energy_and_grad(
        self, x: Float[Tensor, "B D"], compile: bool | str = False
    ) -> tuple[Float[Tensor, "B"], Float[Tensor, "B D"]]:
        """Of all samples; the processes compile nothing, whatever ``compile`` says."""
        x = x.detach()
        if not len(x):
            return x.new_zeros(0), x.clone()
        told = self._team.ask(_GRADIENT, x).to(x)
        decay = self._whole.decay
        return told[:, 0] + (decay * x**2).sum(1), told[:, 1:] + 2 * decay * x

    def hvp(self, x: Float[Tensor, "B D"], v: Float[Tensor, "B D"]) -> Float[Tensor, "B D"]:
        if not len(x):
            return x.detach().clone()
        return self._team.ask(_PRODUCT, x, v).to(x) + 2 * self._whole.decay * v.detach()

    def products_at(self, x: Float[Tensor, "B D"]) -> Callable[[Tensor], Tensor] | None:
        return None  # no process keeps a graph for another

    def hessian(self, x: Float[Tensor, "B D"]) -> Float[Tensor, "B D D"]:
        if not len(x):
            return x.new_zeros(0, x.shape[1], x.shape[1])
        told = self._team.ask(_HESSIAN, x).to(x).unflatten(1, (x.shape[1], x.shape[1]))
        return told + torch.diag_embed(2 * self._whole.decay.expand_as(x))


class _Energy(torch.autograd.Function):
    """An energy that can be differentiated once."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, evaluator: _Spread) -> Tensor:
        energy, grad = evaluator.energy_and_grad(x)
        ctx.save_for_backward(grad)
        return energy

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, slope: Tensor) -> tuple[Tensor, None]:
        (grad,) = ctx.saved_tensors
        return slope[:, None] * grad, None
