"""The published numbers, from `experiments/NAME/reported.json`."""

import json
from pathlib import Path
from typing import Any

import advfool

FAMILIES = ("vgg", "resnet", "densenet")  # the paper has VGG19, ResNet50 and DenseNet121


def experiments_dir() -> Path:
    """Find the folder of the published numbers and our records.

    Returns:
        `advfool/experiments` of an installed package, or `experiments` beside the package in a checkout.
    """
    package = Path(advfool.__file__).parent
    installed = package / "experiments"
    return installed if installed.is_dir() else package.parent / "experiments"


def reported(name: str) -> dict[str, Any]:
    """Read what the paper reports in a table or figure, such as `table1`."""
    return json.loads((experiments_dir() / name / "reported.json").read_text())


def reported_value(name: str, labels: tuple[str, ...], model: str, column: str) -> float | None:
    """Look up a published number.

    Args:
        name: of the table.
        labels: of the row.
        model: a network; the number is that of the paper's network of the same family.
        column: of that network.

    Returns:
        the number in percent, or None where the paper has none.
    """
    family = next((family for family in FAMILIES if model.startswith(family)), None)
    for row in reported(name)["rows"]:
        if tuple(row["labels"]) == labels:
            return row["values"].get(family, {}).get(column)
    return None
