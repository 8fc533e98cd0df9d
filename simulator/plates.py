"""Number plates of made-up trucks, in the forms of GA 36-2018: ordinary, trailer, large new-energy."""

import random
import re
from collections.abc import Iterable

__all__ = ["EXAMPLE_PLATE", "PLATE_FORM", "PlateMaker"]

EXAMPLE_PLATE = "蒙C12345"
"""The plate of the families' examples; never given to a simulated truck, so that posted examples meet no ticket of its."""

_PROVINCES = "京津沪渝冀豫云辽黑湘皖鲁新苏浙赣鄂桂甘晋蒙陕吉闽贵粤青藏川宁琼"
PLATE_FORM = re.compile(
    rf"^[{_PROVINCES}][A-HJ-NP-Z](?:[A-HJ-NP-Z0-9]{{4}}[A-HJ-NP-Z0-9挂学警港澳]|[A-HJK][A-HJ-NP-Z0-9][0-9]{{4}}|[0-9]{{5}}[A-HJK])$"
)
"""Ordinary, trailer and new-energy plates in full form."""

_LETTERS = "ABCDEFGHJKLMNPQRSTUVWXYZ"
_OFFICES = ("蒙C", "蒙C", "蒙C", "蒙C", "蒙C", "蒙K", "蒙M", "宁B")
"""Wuhai five in eight, its neighbours Ordos, Alxa and Shizuishan one each."""


class PlateMaker:
    """Draws plates that are well formed and all different."""

    def __init__(self, rng: random.Random, taken: Iterable[str] = ()) -> None:
        self._rng = rng
        self._taken = {EXAMPLE_PLATE, *taken}

    def _new(self, draw: str) -> bool:
        if draw in self._taken:
            return False
        self._taken.add(draw)
        return True

    def ordinary(self) -> str:
        while True:
            body = list(f"{self._rng.randrange(100_000):05d}")
            if self._rng.random() < 0.6:
                body[self._rng.randrange(2)] = self._rng.choice(_LETTERS)
            if self._new(plate := self._rng.choice(_OFFICES) + "".join(body)):
                return plate

    def trailer(self) -> str:
        while True:
            if self._new(plate := f"{self._rng.choice(_OFFICES)}{self._rng.randrange(10_000):04d}挂"):
                return plate

    def new_energy(self) -> str:
        """Large vehicle: five digits, then D (battery) or F (other)."""
        while True:
            if self._new(plate := f"蒙C{self._rng.randrange(100_000):05d}{'D' if self._rng.random() < 0.9 else 'F'}"):
                return plate
