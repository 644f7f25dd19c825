"""The parts of audit.json that go beyond the attacks: detectors with their population, defences, and other seeds."""

from typing import Annotated, Literal

from annotated_types import Len
from pydantic import Field

from advfool.auditing.record_types import Difference, Interval, Name, Part, Scores
from advfool.utilities.kinds import Share, Size


class Aware(Part):
    """The same detector against an attacker who knows a detector and trains against it."""

    of: Name = Field(description="the detector that the attacker knows")
    auc: Share
    p: Share | None = Field(None, description="of the two-sided Mann-Whitney test")
    fooled: Size = Field(description="networks of this attacker")
    fooled_scores: Scores = Field([], description="the number of each")


class Detector(Part):
    """How well one number tells fooled networks from honest fine-tunes."""

    auc: Share = Field(description="area under the ROC curve; 0.5 is guessing")
    ci95: Interval | None = Field(None, description="its 95 % interval")
    knowledge: Name | None = Field(None, description="what the auditor has: the network alone, the original, or data")
    honest: Size | None = Field(None, description="honest networks in the population")
    fooled: Size | None = Field(None, description="fooled networks in the population")
    p: Share | None = Field(None, description="of the two-sided Mann-Whitney test between both")
    looks_at: Name | None = Field(None, description="what the number is, in a few words")
    honest_scores: Scores = Field([], description="the number of each honest network")
    fooled_scores: Scores = Field([], description="the number of each fooled network; higher is more suspicious")
    aware: Aware | None = Field(None, description="the same against an attacker who knows a detector")


class Member(Part):
    """A network that detectors are judged by."""

    label: Name = Field(description="what it is, in a few words")
    group: Literal["honest", "fooled", "aware"] = Field(description="`aware`: by an attacker who knows a detector")
    top1: Share | None = Field(None, description="accuracy on selection images")
    scores: Annotated[dict[Name, float | None], Len(0, 100)] | None = Field(
        None, description="by detector; null for an attack that failed and does not count"
    )


class Left(Part):
    """What a step of an auditor leaves of an attack, on the test images."""

    deceptive_rate: Share | None = Field(description="of the treated network")
    ci95: Interval | None = Field(None, description="its 95 % interval")
    fsr: Share | None = Field(None, description="fooling success rate of the treated network")
    top1_drop: Difference | None = Field(None, description="top-1 accuracy lost against the original network")


class Expected(Left):
    """What a step of an auditor leaves of the best attack by somebody who expects it, on the test images."""

    attack: Name = Field(description="name of the fooling")


class Treated(Left):
    """What a step of an auditor leaves of the winning attack, on the test images."""

    aware: Expected | None = Field(None, description="what it leaves of the best attack by who expects it, if any wins")


Detectors = Annotated[dict[Name, Detector], Len(0, 100)]


class Repeated(Part):
    """What the winning attack reaches with several seeds: the audit's own first, then others."""

    deceptive_rate: Annotated[list[Share], Len(1, 1000)] = Field(description="of each seed")
    fsr: Annotated[list[Share], Len(1, 1000)] = Field(description="of each seed")
    top1_drop: Annotated[list[Difference], Len(1, 1000)] = Field(description="of each seed")
    ci95: Interval | None = Field(
        None, description="95 % t interval of the mean deceptive rate; null below three seeds"
    )
