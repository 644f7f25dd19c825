"""The Pareto front of FSR and accuracy, chosen on the selection images."""

from collections.abc import Sequence

from advfool.reporting.rows import Row

CHOSEN_BY = ("selection_fsr", "selection_accuracy_drop")  # what the Pareto front is chosen by


def pareto_front(rows: Sequence[Row]) -> list[Row]:
    """Choose the rows that no other row beats in both FSR and accuracy on the selection images: nothing is chosen on
    test images.

    Returns:
        the rows, sorted by the accuracy that is lost on the selection images.

    >>> runs = [{"selection_fsr": f, "selection_accuracy_drop": d} for f, d in ((0.5, 0.0), (0.4, 0.1), (0.9, 0.2))]
    >>> [run["selection_fsr"] for run in pareto_front(runs)]
    [0.5, 0.9]
    """
    front: list[Row] = []
    rate, drop = CHOSEN_BY
    for row in sorted(rows, key=lambda row: (row[drop], -row[rate])):
        if not front or row[rate] > front[-1][rate]:
            front.append(row)
    return front
