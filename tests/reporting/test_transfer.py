"""How fooling transfers to interpreters that it was not trained with."""

import pytest

from advfool.reporting.transfer import transfers


def test_transfer_is_of_the_most_frequent_settings():
    cell = {
        "model": "m",
        "fooling": "location",
        "interp": "lrp_t",
        "evaluated_with": "gradcam",
        "lr": 0.1,
        "max_steps": 9,
    }
    rows = [cell | {"fool_weight": weight, "fsr": fsr} for weight, fsr in ((100, 0.1), (4, 0.9), (4, 0.7))]
    (matrix,) = transfers(rows)
    assert matrix.cells["lrp_t", "gradcam"].fsr == pytest.approx(0.8)


def test_transfer_is_averaged_over_seeds(rows):
    matrix = next(m for m in transfers(rows) if (m.model, m.fooling) == ("resnet_tiny", "location"))
    assert matrix.trained == ("gradcam", "lrp_t")
    cell = matrix.cells["gradcam", "gradcam"]
    assert (cell.fsr, cell.low, cell.high, len(cell.rows)) == (pytest.approx(0.85), 0.8, 0.9, 2)
    assert matrix.cells["lrp_t", "gradcam"].fsr == 0.1
