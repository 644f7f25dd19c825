"""When a cell of a sweep has to be a command of its own."""

import pytest
from omegaconf import OmegaConf

from advfool.commands.cli import _starts_processes


@pytest.mark.parametrize(
    ("trainer", "alone"),
    [
        ({"devices": 1, "strategy": "auto"}, False),
        ({"devices": 2, "strategy": "auto"}, True),  # Lightning makes it ddp
        ({"devices": 2, "strategy": "ddp"}, True),
        ({"devices": "auto", "strategy": "fsdp"}, True),
        ({"devices": 1, "num_nodes": 2, "strategy": "auto"}, True),
        ({"devices": 1, "strategy": "ddp"}, False),
    ],
)
def test_cells_with_several_processes_run_alone(trainer, alone):
    assert _starts_processes(OmegaConf.create({"trainer": trainer})) is alone


def test_slurm_has_started_the_processes_already(monkeypatch):
    from pytorch_lightning.plugins.environments import SLURMEnvironment

    monkeypatch.setattr(SLURMEnvironment, "detect", staticmethod(lambda: True))
    assert not _starts_processes(OmegaConf.create({"trainer": {"devices": 2, "strategy": "ddp"}}))
