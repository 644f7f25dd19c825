"""What a configuration from a run's folder may name: classes on a list, and paths in known places.

Somebody else may have written the folder. Its configuration is data: a class that it names is built only if it is in
`ALLOWED`, if its module is allowed by the user, or if the user's own configuration names it as well.
"""

import importlib
import inspect
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from advfool.utilities.errors import AdvfoolError
from advfool.utilities.stored import refuse_links_out
from advfool.utilities.text import printable

ALLOWED: dict[str, tuple[str, ...]] = {  # constructors by module, as configurations name them
    "advfool.models": ("EfficientNetLite0", "Timm", "Tiny", "Torchvision"),
    "advfool.data": ("DigitsModule", "FolderModule", "Imagenet", "Imagenette", "InputFormat"),
    "advfool.foolings": ("Active", "CenterMass", "Location", "Target", "TopK"),
    "advfool.interpreters": (
        *("Aggregate", "Captum", "GradCAM", "GradCAMPlusPlus", "GuidedBackprop", "HiResCAM", "IntegratedGradients"),
        *("LRP", "LayerCAM", "SimpleGrad", "SmoothGrad", "Softplus", "Zennit"),
    ),
    "advfool.interpreters.lrp": (
        *("AlphaBeta", "Composite", "Epsilon", "Flat", "Gamma", "Norm", "Pass", "Route", "Split", "Sum", "ZBox"),
        "ZPlus",
    ),
    "advfool.training.preserve": ("CrossEntropy", "Distillation"),
    "advfool.training.adversarial": ("FreeAdversarialTraining",),
    "advfool.training.checkpoints": ("BestCheckpoint", "LastCheckpoint"),
    "advfool.training.callbacks": ("DivergenceGuard", "HeatmapSnapshots", "MapMetrics", "StepProgressBar"),
    "advfool.training.noisy": ("ParameterNoise",),
    "advfool.training.loggers": ("TensorBoard", "Wandb"),
    "torch.optim": (
        *("ASGD", "Adadelta", "Adafactor", "Adagrad", "Adam", "AdamW", "Adamax", "NAdam", "RAdam", "RMSprop", "Rprop"),
        "SGD",
    ),
    "torch.optim.lr_scheduler": (
        *("ConstantLR", "CosineAnnealingLR", "CosineAnnealingWarmRestarts", "CyclicLR", "ExponentialLR", "LinearLR"),
        *("MultiStepLR", "OneCycleLR", "PolynomialLR", "StepLR"),
    ),
    "pytorch_lightning": ("Trainer",),
    "pytorch_lightning.callbacks": ("EarlyStopping", "LearningRateMonitor", "ModelCheckpoint", "RichProgressBar"),
    "pytorch_lightning.loggers": ("CSVLogger", "TensorBoardLogger"),
}
FORMAT = "InputFormat"
KINDS: dict[str, tuple[str, ...]] = {  # what a key of the configuration describes
    "model": ALLOWED["advfool.models"],
    "data": tuple(name for name in ALLOWED["advfool.data"] if name != FORMAT),
    "fooling": ALLOWED["advfool.foolings"],
    "interp": ALLOWED["advfool.interpreters"],
    "input": (FORMAT,),
}
PATHS = ("root", "weights", "mask", "cache", "folder", "dirpath", "save_dir", "default_root_dir", "resume")
PATHS += ("honest_finetune", "independent", "picture")
NAMES = ("pretrained", "wheel", "frame", "corner", "cross", "another_class")  # values of such keys that are no paths
SPECIAL = ("_target_", "_partial_", "_convert_", "_recursive_")  # Hydra's keys that only say how something is built
OPERATIONS = ("torch", "torch.nn", "torch.nn.functional", "torch.special")  # modules of operations with rules
OPERATIONS_BELOW = ("torch.nn.modules.", "torchvision.ops.", "torchvision.models.", "timm.layers.", "timm.models.")
_WORD = re.compile(r"[A-Za-z][\w-]*")


@dataclass(frozen=True)
class Trust:
    """What a user trusts in a folder that somebody else may have written.

    Args:
        places: folders in which the configuration may name files: the run's own first, then the cache.
        allow: modules whose classes may be built: `my.module` stands for all that is defined in it and below it.
        named: values of the user's own configuration, which may be named again.
    """

    places: Sequence[Path] = ()
    allow: Sequence[str] = ()
    named: frozenset[str] = frozenset()

    def __post_init__(self) -> None:
        given = [self.allow] if isinstance(self.allow, str) else list(self.allow or ())
        if unfit := [name for name in given if not isinstance(name, str) or not re.fullmatch(r"\w+(\.\w+)*", name)]:
            raise AdvfoolError(f"allow: expected names of modules, e.g. allow=[my.module], got {unfit[0]!r}.")
        object.__setattr__(self, "allow", tuple(given))

    def check(self, tree: Mapping[str, Any], of: str) -> None:
        """Raise an AdvfoolError where a configuration names a class, a module, a variable or a path that it may not.

        Args:
            tree: the configuration, or the part of it that is used, as dictionaries and lists.
            of: names it in messages, e.g. `run=runs/demo`.
        """
        for path, node, known in _nodes(tree):
            if isinstance(node, str) and printable(node) != node:
                raise AdvfoolError(f"{of}: {path} has control characters ({node!r}), which no setting has.")
            if isinstance(node, str) and "${" in node:
                raise AdvfoolError(
                    f"{of}: {path} refers to something else ({node}), expected a value: a finished run's configuration "
                    "is written with all references resolved, and none is resolved later."
                )
            if isinstance(node, Mapping):
                self._check_node(node, path, of)
            elif isinstance(node, str):
                self._check_path(node, path, known, of)
        for module in tree.get("imports") or ():
            if not self._may_import(str(module)):
                raise AdvfoolError(f"{of}: its configuration imports the module '{module}'. {_how(str(module))}")

    def _check_node(self, node: Mapping, path: str, of: str) -> None:
        """Check the class that a node describes, and the names of its keys."""
        odd = [key for key in node if str(key).startswith("_") and str(key).endswith("_") and key not in SPECIAL]
        if odd or any("${" in str(key) or printable(key) != str(key) for key in node):
            raise AdvfoolError(f"{of}: {path} has a key that a run's configuration cannot have: {odd or list(node)}.")
        rules = node.get("rules")
        for key in _rule_names(rules):
            module = key.rpartition(".")[0]
            known = module in OPERATIONS or f"{module}.".startswith(OPERATIONS_BELOW) or key in self.named
            if module and not known and not self._is_own(key):
                raise AdvfoolError(f"{of}: {path}.rules names '{key}'. {_how(module)}")
        if "_target_" in node:
            self._check_target(node["_target_"], node.get("_partial_"), path, of)

    def _check_target(self, target: object, partial: object, path: str, of: str) -> None:
        module, _, name = str(target).rpartition(".")
        known = isinstance(target, str) and name in ALLOWED.get(module, ())
        if isinstance(target, str) and not known and (target in self.named or self._is_own(target)):
            return
        wanted = KINDS.get(
            "input" if path.endswith(".input") else re.sub(r"^(interpreters|others)\.[^.]+$", "interp", path)
        )
        if not known:
            raise AdvfoolError(
                f"{of}: {path}._target_ names '{target}', which is not built from a run's folder: expected a class of "
                f"advfool, torch.optim or Lightning. {_how(module or str(target))}"
            )
        if wanted and name not in wanted:
            raise AdvfoolError(f"{of}: {path}._target_: expected one of {', '.join(wanted)}, got {target}.")
        if partial and not module.startswith("torch.optim"):
            raise AdvfoolError(f"{of}: {path}._partial_ is for optimizers and schedulers, got {target}.")

    def _may_import(self, module: str) -> bool:
        return module in self.named or any(f"{module}.".startswith(f"{own}.") for own in self.allow)

    def _is_own(self, target: str) -> bool:
        """Tell whether a dotted name is a class or function that is defined in an allowed module."""
        module, _, name = target.rpartition(".")
        if not any(f"{module}.".startswith(f"{own}.") for own in self.allow):
            return False
        try:
            found: Any = getattr(importlib.import_module(module), name)
        except (ImportError, AttributeError):
            return False
        defined = f"{getattr(found, '__module__', None)}."
        own = any(defined.startswith(f"{one}.") for one in self.allow)
        return own and (inspect.isclass(found) or inspect.isfunction(found))

    def _check_path(self, value: str, path: str, known: bool, of: str) -> None:
        """Check a text that may be a path: under a key for paths, or anywhere in a class of the user's own."""
        key = path.rpartition(".")[2]
        if value in self.named or not (_may_be_path(key, value) if key in PATHS else not known and _leads_away(value)):
            return
        found = Path(value)
        try:
            found = found.expanduser().resolve()
            inside = [place for place in self.places if found.is_relative_to(place.expanduser().resolve())]
        except (OSError, RuntimeError, ValueError):
            inside = []
        if not inside:
            instead = "original" if path == "model.weights" else f"++{path}"
            raise AdvfoolError(
                f"{of}: its configuration names '{value}' ({path}), which lies outside of the run's folder and the "
                f"cache. Such files are not opened unasked; if they are the right ones, add {instead}={value}"
            )
        if inside[0] == self.places[0]:
            refuse_links_out(found)


def named_in(folders: Iterable[Path]) -> frozenset[str]:
    """List what the YAML files in folders of a user's own name, laid out like `conf/`."""
    found: set[str] = set()
    for folder in folders:
        for path in sorted([*folder.glob("*.yaml"), *folder.glob("*/*.yaml")]):
            try:
                found.update(leaf_texts(yaml.safe_load(path.read_text())))
            except (OSError, ValueError, yaml.YAMLError):  # whoever uses the file is told
                continue
    return frozenset(found)


def leaf_texts(tree: object) -> Iterator[str]:
    """Yield the texts and the names of keys in a tree: what a configuration names."""
    for _, node, _ in _nodes(tree):
        if isinstance(node, str):
            yield node
        elif isinstance(node, Mapping):
            yield from (key for key in node if isinstance(key, str) and "." in key)
            if isinstance(node.get("_target_"), str):
                yield node["_target_"]
        elif isinstance(node, Path):
            yield str(node)


def _nodes(tree: object, path: str = "", known: bool = True) -> Iterator[tuple[str, Any, bool]]:
    """Yield each node with its dotted path, and whether it belongs to a class of advfool's that has paths in PATHS."""
    if isinstance(tree, Mapping):
        if "_target_" in tree:
            module, _, name = str(tree["_target_"]).rpartition(".")
            known = name in ALLOWED.get(module, ()) and module.startswith("advfool.")
        yield path, tree, known
        for key, child in tree.items():
            if key != "_target_":
                yield from _nodes(child, f"{path}.{key}".lstrip("."), known)
    elif isinstance(tree, list | tuple):
        for child in tree:
            yield from _nodes(child, path, known)
    else:
        yield path, tree, known


def _rule_names(rules: object) -> Iterator[str]:
    """Yield the names that LRP's rules are given to: keys, or the first of pairs."""
    if isinstance(rules, Mapping):
        yield from map(str, rules)
    elif isinstance(rules, list | tuple):
        yield from (str(pair[0]) for pair in rules if isinstance(pair, list | tuple) and pair)


def _may_be_path(key: str, value: str) -> bool:
    """Tell whether a value is a path; the names of pretrained weights, of masks and of targets are none."""
    named = key in ("weights", "mask", "picture") and _WORD.fullmatch(value)
    return not named or (value not in NAMES and Path(value).is_file())


def _leads_away(value: str) -> bool:
    parts = re.split(r"[/\\]", value)
    return value.startswith(("/", "\\", "~")) or ".." in parts or re.match(r"\w+:[/\\]", value) is not None


def _how(module: str) -> str:
    return f"If it is your own, or you trust whoever wrote it, allow it: allow=[{module}]."
