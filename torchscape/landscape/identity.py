"""Which landscape a file holds: fingerprint, readable settings, and a few energies as a probe."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path

import torch

from torchscape.devices import HOST
from torchscape.errors import DatabaseError, FingerprintMismatch
from torchscape.landscape.codec import from_blobs, to_blobs
from torchscape.landscape.matching import Matching
from torchscape.landscape.store import Store
from torchscape.potentials.base import Potential, hash_settings
from torchscape.transfer import moved
from torchscape.types import Float, Tensor

__all__ = ["begin", "expect_same", "readable_settings", "record", "stored_dtype", "stored_matching"]

_PROBE_ROWS = 3
_PROBE_SEED = 20170507
_RTOL = {torch.float64: 1e-6, torch.float32: 1e-3}


def record(store: Store, potential: Potential) -> None:
    """Write down which potential the file belongs to, inside the caller's transaction."""
    probe = potential.sample(_PROBE_ROWS, seed=_PROBE_SEED)
    probe, energy = moved((probe, potential.energy(probe).detach()), HOST)
    facts: dict[str, object] = {
        "kind": type(potential).__name__,
        "fingerprint": potential.fingerprint(),
        "settings": json.dumps(readable_settings(potential.settings())),
        "ndim": potential.ndim,
        "dtype": str(potential.dtype).removeprefix("torch."),
        "probe": b"".join(to_blobs(probe)),
        "probe_energy": to_blobs(energy.double()[None])[0],
    }
    store.executemany("INSERT INTO meta(key, value) VALUES (?, ?)", list(facts.items()))


def begin(store: Store, potential: Potential | None, matching: Matching) -> None:
    """All tables of a new file, and whose landscape it is."""
    if potential is None:
        raise DatabaseError(f"{store.path} is empty: open it with a potential to begin a landscape in it")
    with store.creation():
        record(store, potential)
        settings = json.dumps(dataclasses.asdict(matching))
        store.execute("INSERT INTO meta(key, value) VALUES ('matching', ?)", (settings,))


def stored_matching(store: Store) -> Matching:
    """When points of this landscape are the same."""
    return Matching(**json.loads(store.execute("SELECT value FROM meta WHERE key = 'matching'")[0][0]))


def expect_same(store: Store, potential: Potential) -> None:
    """Is this the potential the file was made with?

    Raises:
        FingerprintMismatch: if its settings differ (each is named), or, with equal settings, its energies.
    """
    meta = dict(store.execute("SELECT key, value FROM meta"))
    where = store.path or Path("this landscape")
    if potential.fingerprint() != meta["fingerprint"]:
        raise FingerprintMismatch(_different_settings(where, meta, potential))
    probe = from_blobs([meta["probe"]], potential.ndim)
    stored = from_blobs([meta["probe_energy"]], len(probe))[0]
    energy = _energy(potential, probe.to(potential.device, potential.dtype))
    rtol = max(_RTOL.get(dtype, 1e-2) for dtype in (potential.dtype, stored_dtype(store)))
    # Relative to each energy, and for those that happen to be small to the typical one.
    atol = rtol * float(stored[stored.isfinite()].abs().median()) if bool(stored.isfinite().any()) else 0.0
    if not torch.allclose(energy, stored, rtol=rtol, atol=atol, equal_nan=True):
        raise FingerprintMismatch(
            f"{where} holds the landscape of a {meta['kind']} with the same settings but other energies "
            f"({_listed(stored)} there, {_listed(energy)} here, at {len(probe)} fixed points): the code of the "
            "model or of the loss has changed, or is not deterministic. Explore into a new file, or restore it"
        )


def stored_dtype(store: Store) -> torch.dtype:
    """The dtype the points were computed in."""
    rows = store.execute("SELECT value FROM meta WHERE key = 'dtype'")
    if not rows:
        raise DatabaseError(f"{store.path} does not say whose landscape it is: its tables were tampered with")
    dtype: torch.dtype = getattr(torch, rows[0][0])
    return dtype


def readable_settings(value: object) -> dict[str, str]:
    """Settings as short strings under dotted names; arrays and long values by shape and hash.

    Example:
        >>> readable_settings({"l2": 0.01, "data": {"y": torch.zeros(3)}})
        {'l2': '0.01', 'data.y': 'float32 [3] #...'}
    """
    if not isinstance(value, Mapping):
        return {"": _short(value)}
    flat: dict[str, str] = {}
    for name, item in value.items():
        for rest, text in readable_settings(item).items():
            flat[f"{name}.{rest}" if rest else str(name)] = text
    return flat


def _short(value: object) -> str:
    if hasattr(value, "dtype") and hasattr(value, "shape"):
        dtype = str(value.dtype).removeprefix("torch.")
        return f"{dtype} {list(value.shape)} #{hash_settings(value)[:12]}"
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:60]}... #{hash_settings(value)[:12]}"


def _energy(potential: Potential, x: Float[Tensor, "B D"]) -> Float[Tensor, "B"]:
    return potential.energy(x).detach().to("cpu", torch.float64)


def _different_settings(where: Path, meta: Mapping[str, str], potential: Potential) -> str:
    there = {"kind": meta["kind"], **json.loads(meta["settings"])}
    here = {"kind": type(potential).__name__, **readable_settings(potential.settings())}
    names = [name for name in {**there, **here} if there.get(name) != here.get(name)]
    shown = [
        f"{name} is {there.get(name, 'absent')} there and {here.get(name, 'absent')} here" for name in names[:6]
    ]
    more = f", and {len(names) - 6} more" if len(names) > 6 else ""
    return (
        f"{where} holds the landscape of a {meta['kind']} with fingerprint {meta['fingerprint'][:12]}, not of "
        f"this {type(potential).__name__} with fingerprint {potential.fingerprint()[:12]}: "
        f"{'; '.join(shown) or 'their settings differ'}{more}. "
        "Explore into another file, or rebuild the potential as it was"
    )


def _listed(energy: Float[Tensor, "B"]) -> str:
    return ", ".join(f"{value:.8g}" for value in energy.tolist())
