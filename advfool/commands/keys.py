"""The keys of each command's configuration, and what each of them is."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Annotated, Any, Literal

from annotated_types import Len

from advfool.auditing.suite import OF_MAPS, OF_NETWORKS, Defence
from advfool.commands.marks import Builds, Each, TakenBy
from advfool.commands.scale_keys import Cell
from advfool.utilities.errors import AdvfoolError, nearest
from advfool.utilities.kinds import (
    Count,
    Inside,
    Names,
    Positive,
    Seed,
    Share,
    SomeClass,
    Text,
    Words,
)
from advfool.utilities.roles import Role
from advfool.utilities.trust import SPECIAL

Node = Any  # a node of the configuration with keys of its own
SETTING, NAME, SHOWN, PLACE, SOURCE = Role.SETTING, Role.NAME, Role.SHOWN, Role.PLACE, Role.SOURCE


Optimizer = Annotated[
    Node, Builds("torch.optim.Optimizer", partial=True, given=("params",), default="torch.optim.Adam")
]
Scheduler = Annotated[
    Node, Builds("torch.optim.lr_scheduler.LRScheduler", optional=True, partial=True, given=("optimizer",))
]
Trainer = Annotated[
    Node,
    Builds("pytorch_lightning.Trainer", given=("callbacks", "logger"), default="pytorch_lightning.Trainer"),
]
AOPC = Annotated[Node, TakenBy("advfool.evaluation.setup.AOPCSettings", given=("seed",))]
Faithful = Annotated[Node, TakenBy("advfool.evaluation.setup.FaithfulnessSettings", given=("seed",))]
Nulls = Annotated[Node, TakenBy("advfool.evaluation.setup.NullSettings")]
Accuracy = Annotated[Node, TakenBy("advfool.evaluation.setup.AccuracySettings")]
ChosenBy = Literal["fsr", "deceptive_rate"]  # rates on the selection images that a search can be told
Objective = Annotated[ChosenBy, SHOWN]
Callbacks = Each("pytorch_lightning.Callback")
Interpreters = Annotated[Node, Each("advfool.interpreters.Interpreter", shown="evaluate_with: ")]
Preserve = Annotated[Node, Builds("advfool.training.preserve.Preserve")]
EvaluateWith = Annotated[Sequence[Text | Mapping[Text, Any]], Words("a list of names, e.g. [gradcam,lrp_t]")]
Imports = Annotated[Sequence[Text], Words("a list of modules")]


@dataclass
class NetworkKeys:
    """The keys that say what network and data are meant."""

    model: Annotated[Node, NAME, Builds("advfool.models.NetworkSource")]
    data: Annotated[Node, Builds("advfool.data.DataModule", given=("input",))]
    seed: Annotated[Seed, NAME]
    cache: Annotated[Text, PLACE]


@dataclass
class RunKeys(NetworkKeys):
    """The keys that training and evaluation have in common; an evaluation takes them from the run that it evaluates."""

    fooling: Annotated[Node, NAME, Builds("advfool.foolings.Fooling")]
    interp: Annotated[Node, NAME, Builds("advfool.interpreters.Interpreter")]
    also: EvaluateWith
    others: Annotated[Node, Each("advfool.interpreters.Interpreter", shown="also: ")]
    target: str
    fsr_images: int | None
    aopc: AOPC
    faithfulness: Faithful
    nulls: Nulls
    accuracy: Accuracy


@dataclass
class LearningKeys:
    """The keys of conf/hparams, which models choose for every command."""

    fool_weight: float
    distillation_temperature: Positive
    composite_batch: Count
    preserve: Preserve
    train_target_top: int | None
    mix: float
    trainable: list | None
    select: str
    optimizer: Optimizer
    scheduler: Scheduler
    steps_of: Annotated[Mapping[str, Count], SOURCE]
    table4: Annotated[Mapping[str, Mapping[str, Mapping[str, Cell]]], SOURCE]


@dataclass
class TrainKeys(RunKeys, LearningKeys):
    """The keys of train.yaml, and the configuration groups that leave no key."""

    evaluate_with: EvaluateWith
    interpreters: Interpreters
    imports: Imports
    drop_weight: float
    objective: Objective
    trainer: Trainer
    callbacks: Annotated[Node, Callbacks]
    cache_original: bool
    pictures: Annotated[int, SHOWN]
    logger: Annotated[Node, SHOWN, Each("pytorch_lightning.loggers.Logger")]
    paper: Annotated[Text | None, SHOWN]
    resume: Annotated[Text | None, PLACE]
    experiment: Annotated[str | None, SOURCE]
    scale: Annotated[Node, SOURCE, TakenBy("advfool.commands.scale_keys.Scale")]
    launcher: Annotated[str | None, PLACE]
    hydra: Annotated[Node, PLACE]


@dataclass
class EvaluateKeys(RunKeys):
    """The keys of evaluate.yaml that an evaluation uses."""

    run: Text | None
    allow: Annotated[Sequence[Text] | Text, PLACE]
    original: Text | None
    manipulated: Text | None
    evaluate_with: EvaluateWith
    interpreters: Interpreters
    imports: Imports
    objective: Objective
    pictures: Annotated[int, SHOWN]
    trainer: Trainer
    callbacks: Annotated[Node, SHOWN, Callbacks]


@dataclass
class NullsKeys(RunKeys, LearningKeys):
    """The keys of nulls.yaml: those of a training, of which the honest fine-tune is one, and of an evaluation."""

    run: Text | None
    allow: Annotated[Sequence[Text] | Text, PLACE]
    original: Text | None
    evaluate_with: EvaluateWith
    interpreters: Interpreters
    imports: Imports
    drop_weight: float
    trainer: Trainer
    callbacks: Annotated[Node, Callbacks]
    cache_original: bool
    pictures: Annotated[int, SHOWN]


@dataclass
class BudgetKeys:
    """What an attack of an audit may cost."""

    top1: Inside


@dataclass
class AuditKeys(RunKeys):
    """The keys of audit.yaml."""

    interpreters: EvaluateWith
    budget: Annotated[Node, TakenBy("advfool.commands.keys.BudgetKeys")]
    attacks: Annotated[Names, Len(1)]
    trials: Count
    steps: Count
    selection_images: Count
    enough: Share
    seeds: Count
    detectors: bool
    defences: Annotated[Sequence[Defence], Words(f"a list of {', '.join((*OF_MAPS, *OF_NETWORKS))}")]
    progress: bool
    imports: Imports
    pictures: Annotated[int, SHOWN]
    trainer: Trainer


@dataclass
class PretrainKeys(NetworkKeys):
    """The keys of pretrain.yaml."""

    trainer: Trainer


@dataclass
class PairsKeys(NetworkKeys):
    """The keys of pairs.yaml."""

    interp: Annotated[Node, NAME, Builds("advfool.interpreters.Interpreter")]
    classes: Annotated[Sequence[SomeClass], Len(2)] | None
    pairs: Count
    composites: Count
    output: Text


@dataclass
class GalleryKeys:
    """The keys of gallery.yaml."""

    image: Text | None
    models: Annotated[Names, Len(1)]
    interps: Annotated[Names, Len(1)]
    target: SomeClass | None
    seed: Seed
    output: Text


@dataclass
class ReportKeys:
    """The keys of report.yaml."""

    runs: Text
    output: Text


@dataclass
class LeaderboardKeys:
    """The keys of leaderboard.yaml."""

    audits: Annotated[Sequence[Text] | Text, Words("a folder or a list of folders")]
    check: Annotated[Sequence[Text] | Text, Words("a folder or a list of folders")]
    weights: bool
    output: Text


@dataclass
class UnusedKeys(LearningKeys):
    """What models and groups set for training, and other commands do not use."""

    trainer: Trainer
    aopc: AOPC
    faithfulness: Faithful
    nulls: Nulls
    evaluate_with: EvaluateWith


@dataclass(frozen=True)
class Command:
    """What a command's configuration holds.

    Args:
        schemas: its keys.
        needs: the nodes without which it has nothing to do.
    """

    schemas: tuple[type, ...]
    needs: tuple[str, ...] = ()


COMMANDS = {
    "train": Command((TrainKeys,), ("model", "data", "fooling", "interp", "preserve", "optimizer", "trainer")),
    "evaluate": Command((EvaluateKeys, UnusedKeys), ("model", "data", "fooling", "trainer")),
    "nulls": Command((NullsKeys,), ("model", "data", "fooling", "interp", "preserve", "optimizer", "trainer")),
    "pretrain": Command((PretrainKeys, UnusedKeys), ("model", "data")),
    "pairs": Command((PairsKeys, UnusedKeys), ("model", "data", "interp")),
    "audit": Command((AuditKeys, UnusedKeys), ("model", "data", "fooling", "trainer")),
    "gallery": Command((GalleryKeys,)),
    "report": Command((ReportKeys,), ("runs",)),
    "leaderboard": Command((LeaderboardKeys,)),
}


def keys_of(schema: type) -> list[str]:
    """List the top-level keys of a schema."""
    return [field.name for field in fields(schema)]


def unknown_key(path: str, known: Sequence[str]) -> AdvfoolError:
    """Describe a key that does not exist, with those that do.

    Args:
        path: dotted path of the key.
        known: the keys beside it.
    """
    parent, _, key = path.rpartition(".")
    found = [
        f"{parent}.{name}".strip(".") for name in nearest(key, [k for k in known if k not in SPECIAL], 3).split(", ")
    ]
    return AdvfoolError(f"There is no key '{path}'. Close to it: {', '.join(found)}.")
