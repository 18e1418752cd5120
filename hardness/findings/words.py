"""What the sentences of all findings share. Every number in them is an estimate, or in their ``numbers``."""

from dataclasses import dataclass, field

from hardness.statistics import Estimate

ONE_SEED = "One seed gives no interval: track and retrain, or memorize, with at least three seeds."


@dataclass(frozen=True)
class Words:
    """What the numbers say: in one sentence, and in full."""

    headline: str
    sentences: list[str]
    numbers: dict[str, float] = field(default_factory=dict)
    """Numbers in the words that are not estimates."""
    cautions: list[str] = field(default_factory=list)


def judged(difference: Estimate, more: str, less: str) -> str:
    """``more`` if it is significantly above 0, ``less`` if below."""
    if difference.low is None:
        return "one seed gives no interval"
    return {1: more, 0: "no significant difference", -1: less}[difference.sign]


def includes_0(estimate: Estimate) -> str:
    """The end of a sentence about a difference."""
    return "; the interval includes 0" if estimate.low is not None and estimate.sign == 0 else ""
