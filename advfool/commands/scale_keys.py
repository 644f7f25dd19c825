"""The keys of conf/scale and of the paper's Table 4, which experiments are measured by."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any

from annotated_types import Len

from advfool.commands.marks import TakenBy
from advfool.utilities.kinds import Count, NonNegative, Positive, Seed, Size, Text

Node = Any  # a node of the configuration with keys of its own
AOPC = Annotated[Node, TakenBy("advfool.evaluation.setup.AOPCSettings", given=("seed",))]


@dataclass
class Table4:
    """One cell of the paper's Table 4."""

    lr: Positive
    fool_weight: NonNegative


@dataclass
class Noise:
    """How the parameter noise of an experiment is measured."""

    levels: Annotated[Sequence[NonNegative], Len(1)]
    draws: Count
    images: Count | None


@dataclass
class Attack:
    """How an experiment attacks images."""

    images: Count | None
    epsilon: NonNegative
    step: NonNegative
    steps: Size


@dataclass
class Measures:
    """What an experiment measures on finished runs."""

    aopc: AOPC
    noise: Annotated[Node, TakenBy("advfool.commands.scale_keys.Noise")]
    plain: Mapping[str, Any]
    pgd: Annotated[Node, TakenBy("advfool.commands.scale_keys.Attack")]


@dataclass
class Scale:
    """The keys of conf/scale."""

    name: Text
    networks: Text
    vgg: Text
    resnet: Text
    densenet: Text
    robust: Text
    seeds: Text | Seed
    validate_every: Count
    measure: Annotated[Node, TakenBy("advfool.commands.scale_keys.Measures")]


Cell = Annotated[Node, TakenBy("advfool.commands.scale_keys.Table4")]
