"""Arrows between packages run one way."""

import ast
from pathlib import Path

import advfool

ROOT = Path(advfool.__file__).parent
FORBIDDEN = {  # package: what it must not import
    "sites": (
        "advfool.graph",
        "advfool.interpreters.tracing.recording",
        "advfool.interpreters",
        "advfool.models",
        "advfool.data",
    ),
    "linear": (
        "advfool.graph",
        "advfool.interpreters.tracing.recording",
        "advfool.interpreters",
        "advfool.interpreters.lrp",
        "advfool.models",
    ),
    "graph": (
        "advfool.interpreters.tracing.recording",
        "advfool.interpreters",
        "advfool.interpreters.lrp",
        "advfool.models",
        "advfool.data",
    ),
    "relevance": ("advfool.interpreters", "advfool.foolings", "advfool.metrics", "advfool.models", "advfool.data"),
    "heatmaps": ("advfool.interpreters", "advfool.foolings", "advfool.metrics", "advfool.models", "advfool.data"),
    "recording": ("advfool.interpreters", "advfool.foolings", "advfool.metrics", "advfool.models", "advfool.data"),
    "interpreters": (
        "advfool.foolings",
        "advfool.metrics",
        "advfool.models",
        "advfool.data",
        "advfool.training.module",
    ),
    "foolings": (
        "advfool.interpreters",
        "advfool.metrics",
        "advfool.models",
        "advfool.data",
        "advfool.training.module",
    ),
    "metrics": (
        "advfool.interpreters",
        "advfool.foolings",
        "advfool.models",
        "advfool.data",
        "advfool.training.module",
    ),
    "random_numbers": ("advfool.",),
    "reference": ("advfool.foolings", "advfool.metrics", "advfool.training.module", "advfool.commands.train"),
    "evaluation": (
        "advfool.training.module",
        "advfool.commands.train",
        "advfool.commands.setup",
        "advfool.interpreters.cam",
    ),
    "data": (
        "advfool.interpreters",
        "advfool.foolings",
        "advfool.metrics",
        "advfool.models",
        "advfool.training.module",
    ),
    "module": (
        "advfool.interpreters.cam",
        "advfool.interpreters.lrp.interpreter",
        "advfool.foolings.passive",
        "advfool.commands.train",
    ),
}
LIGHTNING = {
    "attacks",
    "dashboards",
    "module",
    "data",
    "callbacks",
    "command",
    "evaluation",
    "evaluating",
    "pretraining",
    "quiet",
    "training",
}
HYDRA = {"building", "command", "assembly", "pretraining", "training", "train", "pretrain", "run_folder"}
HYDRA |= {"evaluate", "evaluating", "explaining", "gallery", "galleries", "sweeps", "runs", "report", "paper"}


def imports():
    for path in ROOT.rglob("*.py"):
        part = path.relative_to(ROOT).parts[0].removesuffix(".py")
        for node in ast.walk(ast.parse(path.read_text())):
            names = [node.module] if isinstance(node, ast.ImportFrom) else []
            names += [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            yield from ((part, name, path) for name in names if name)


def test_arrows_run_one_way():
    wrong = [(path, name) for part, name, path in imports() if name.startswith(FORBIDDEN.get(part, ("-",)))]
    assert wrong == []


def test_lightning_and_hydra_stay_where_they_belong():
    wrong = [(path, name) for part, name, path in imports() if "lightning" in name and part not in LIGHTNING]
    wrong += [(p, n) for part, n, p in imports() if n.startswith(("hydra", "omegaconf")) and part not in HYDRA]
    assert wrong == []
