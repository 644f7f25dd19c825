"""Weights that are trained once and cached."""

import pytest
import pytorch_lightning as pl
import torch
from hydra import compose, initialize_config_dir
from safetensors.torch import load_file

from advfool.commands.pretrained import pretrained_weights, weights_path
from advfool.training import pretraining
from advfool.utilities.config import conf_dir


def config(cache, *overrides):
    quick = ["model.pretrain.epochs=1", "model.pretrain.batch_size=256"]
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        return compose("train", [f"cache={cache}", *quick, *overrides])


def test_trained_once_cached_and_the_random_state_left_alone(tmp_path, monkeypatch):
    monkeypatch.setattr("advfool.data.digits.PLACEMENTS", {"train": 1, "selection": 1, "test": 1})
    cfg = config(tmp_path)
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    path = pretrained_weights(cfg)
    assert torch.equal(torch.rand(3), expected)
    state, written = load_file(path), path.stat().st_mtime_ns
    assert pretrained_weights(cfg) == path
    assert path.stat().st_mtime_ns == written
    path.unlink()
    again = load_file(pretrained_weights(cfg))
    assert all(torch.equal(state[name], again[name]) for name in state)


def test_the_key_covers_model_and_data_but_not_the_fine_tuning(tmp_path):
    path = weights_path(config(tmp_path))
    same = ("seed=3", "data.batch_size=8", "data.limit_test=5", "fool_weight=9", "model.target_layer=layer2.0")
    other = ("data.seed=1", "model=vgg_tiny", "model.pretrain.lr=0.1", "model.pretrain.seed=1")
    assert all(weights_path(config(tmp_path, override)) == path for override in same)
    assert len({path, *(weights_path(config(tmp_path, override)) for override in other)}) == 5


@pytest.mark.parametrize("threads", [1, 3])
def test_the_number_of_threads_is_its_own(tmp_path, monkeypatch, threads):
    seen, before = [], torch.get_num_threads()
    monkeypatch.setattr("advfool.data.digits.PLACEMENTS", {"train": 1, "selection": 1, "test": 1})
    monkeypatch.setattr(pl.Trainer, "fit", lambda *_: seen.append(torch.get_num_threads()))
    monkeypatch.setattr(pl.Trainer, "validate", lambda *_, **__: [{"val/top1": 0.5}])
    try:
        torch.set_num_threads(threads)
        pretrained_weights(config(tmp_path))
        assert seen == [pretraining.THREADS]
        assert torch.get_num_threads() == threads
    finally:
        torch.set_num_threads(before)
