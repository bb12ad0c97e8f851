"""What somebody has, in the unit they have it: FLOPs, GPU-hours, money, days, hours of audio; as plain numbers.

>>> f"{flops_of_hours(1000, Machine('h100', mfu=0.4)):.4g}"
'1.424e+21'
>>> amount("1.7B", "--params"), amount("5.76e23", "--flops")
(1700000000.0, 5.76e+23)
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass

from isoflop.errors import InputError
from isoflop.planning.hardware import Accelerator, accelerator

_SUFFIXES = {"": 1.0, "k": 1e3, "M": 1e6, "B": 1e9, "T": 1e12}
_AMOUNT = re.compile(r"([+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?)([kMBT]?)")
#: What each amount is counted in, for messages.
_UNITS = {
    "--flops": "training FLOPs, like 1e22",
    "--table": "training FLOPs, like 1e22",
    "--gpu-hours": "hours, like 5000",
    "--cost": "money, like 20000",
    "--price-per-hour": "money, like 2.5",
    "--days": "days, like 14",
    "--audio-hours": "hours, like 100k",
    "--token-rate": "tokens a second, like 100",
    "--params": "parameters, like 1.7B",
    "--suite": "parameters, like 1.7B",
}


@dataclass(frozen=True)
class Machine:
    """What a run would be trained on, in bf16.

    Parameters
    ----------
    gpu
        A known accelerator (`isoflop/data/accelerators.yaml`).
    gpus
        How many; None: as few as hold the model.
    mfu
        Model FLOPs utilisation (fraction); None: the one assumed for that accelerator.
    price
        Of one accelerator for an hour, in your currency; None: not known.

    Raises
    ------
    InputError
        If the accelerator is unknown, `gpus` is below 1, `mfu` outside (0, 1], or `price` not positive.
    """

    gpu: str
    gpus: int | None = None
    mfu: float | None = None
    price: float | None = None

    def __post_init__(self) -> None:
        _ = self.device
        if self.gpus is not None and self.gpus < 1:
            raise InputError(f"gpus >= 1 must hold, but got {self.gpus}")
        if self.mfu is not None and not 0 < self.mfu <= 1:
            raise InputError(f"0 < mfu <= 1 must hold (0.4 is 40 %), but got {self.mfu:g}")
        if self.price is not None:
            positive("price", self.price)

    @property
    def device(self) -> Accelerator:
        """Its data sheet."""
        return accelerator(self.gpu, "gpu")

    @property
    def rate(self) -> float:
        """Model FLOPs a second of one accelerator: peak in bf16 × MFU."""
        return self.device.peak("bf16") * (self.mfu or self.device.mfu)


def positive(name: str, value: float) -> float:
    """`value`; `InputError` says `name` unless it is positive and finite."""
    if not (math.isfinite(value) and value > 0):
        raise InputError(f"{name} must be positive and finite, but got {value:g}")
    return value


def amount(text: str, option: str) -> float:
    """Read ``1e22``, ``20000``, ``1.7B``: a positive number with k, M, B or T at most; units are the option's.

    Raises
    ------
    InputError
        For anything else; the message says what the option counts.
    """
    unit = _UNITS.get(option, "tokens, like 30B")
    found = _AMOUNT.fullmatch(text.strip())
    if found is None:
        hint = "; FLOP/s are a speed, give --days or --gpu-hours with --gpu" if "/s" in text else ""
        raise InputError(f"{option} must be a plain number of {unit}, but got {text!r}{hint}")
    return positive(option, float(found[1]) * _SUFFIXES[found[2]])


def amounts(text: str, option: str) -> list[float]:
    """Read several, set apart by commas."""
    return [amount(each, option) for each in text.split(",")]


def flops_of_hours(hours: float, machine: Machine) -> float:
    """Training FLOPs that `hours` accelerator-hours buy: hours × 3600 × peak × MFU."""
    return positive("gpu-hours", hours) * 3600 * machine.rate


def flops_of_cost(cost: float, machine: Machine) -> float:
    """Training FLOPs that money buys at the machine's price; `InputError` where it has none."""
    if machine.price is None:
        raise InputError(f"a cost must go with a price for an hour, but got {cost:g} alone")
    return flops_of_hours(positive("cost", cost) / machine.price, machine)


def flops_of_days(days: float, machine: Machine) -> float:
    """Training FLOPs that `days` on all of the machine's accelerators buy; `InputError` where their number is open."""
    if machine.gpus is None:
        raise InputError(f"days must go with a number of GPUs, but got {days:g} alone")
    return flops_of_hours(positive("days", days) * 24 * machine.gpus, machine)


def tokens_of_audio(hours: float, rate: float) -> float:
    """Tokens in `hours` of audio at `rate` tokens a second."""
    return positive("audio-hours", hours) * 3600 * positive("token-rate", rate)
