"""The numbers as published, from `experiments/NAME/reported.json`."""

import json
from pathlib import Path

import advfool

FAMILIES = ("vgg", "resnet", "densenet")  # of the paper's networks VGG19, ResNet50 and DenseNet121


def experiments_dir() -> Path:
    """The folder of the published numbers and our records: inside the installed package, or beside it in a checkout."""
    package = Path(advfool.__file__).parent
    installed = package / "experiments"
    return installed if installed.is_dir() else package.parent / "experiments"


def reported(name: str) -> dict:
    """What the paper says of a table or figure."""
    return json.loads((experiments_dir() / name / "reported.json").read_text())


def reported_value(name: str, labels: tuple[str, ...], model: str, column: str) -> float | None:
    """A cell of a published table, in %, for a network of the family of one of the paper's, or None."""
    family = next((family for family in FAMILIES if model.startswith(family)), None)
    for row in reported(name)["rows"]:
        if tuple(row["labels"]) == labels:
            return row["values"].get(family, {}).get(column)
    return None
