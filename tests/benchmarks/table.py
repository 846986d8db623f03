"""A table of rates, with the ratio of each to the limit it stands beside."""

from dataclasses import dataclass, field
from statistics import median


@dataclass
class Table:
    """Rates per second by what was measured; rounds are compared pair by pair."""

    title: str
    #: What was measured → one rate a round.
    rates: dict[str, list[float]] = field(default_factory=dict[str, list[float]])
    #: What was measured → its limit, a key of `rates`.
    limits: dict[str, str] = field(default_factory=dict[str, str])

    def add(self, name: str, rate: float, *, beside: str | None = None) -> None:
        """Note one round's rate."""
        self.rates.setdefault(name, []).append(rate)
        if beside is not None:
            self.limits[name] = beside

    def ratio(self, name: str) -> float:
        """The median of the rounds' ratios to the limit."""
        limit = self.rates[self.limits[name]]
        return median(a / b for a, b in zip(self.rates[name], limit, strict=True))

    def __str__(self) -> str:
        width = max(map(len, self.rates))
        lines = [f"\n{self.title}", f"{'':{width}}  {'a second':>10}  {'of the limit':>12}"]
        for name, rates in self.rates.items():
            share = f"{self.ratio(name):>11.0%}" if name in self.limits else ""
            lines.append(f"{name:{width}}  {median(rates):>10,.0f}  {share}".rstrip())
        return "\n".join(lines)
