"""`advfool.load_fooled`: the network of a saved result, and of a run on the command line."""

import pytest
import torch

import advfool
from advfool.models.weights import write_weights
from advfool.utilities.errors import AdvfoolError
from tests.helpers.command import SMALL, run, weights_of
from tests.helpers.own_network import own_images, own_network, state_of


@pytest.fixture
def folder(tmp_path):
    write_weights(own_network(seed=1).eval(), tmp_path / "manipulated.safetensors", ("a", "b", "c"))
    return tmp_path


def test_a_copy_of_the_given_network_is_filled(folder):
    given = own_network(seed=2).train()
    before = state_of(given)
    loaded = advfool.load_fooled(folder, model=given)
    assert state_of(given) == before
    assert loaded is not given
    assert not any(module.training for module in loaded.modules())
    assert torch.equal(loaded(own_images()[0]), own_network(seed=1).eval()(own_images()[0]))
    assert advfool.load_fooled(str(folder), given)[3].weight.data_ptr() != loaded[3].weight.data_ptr()


def test_the_network_of_a_run_needs_no_other(tmp_path):
    steps = ["trainer.max_steps=1", "pictures=0", "evaluate_with=[gradcam]", "callbacks.progress=null"]
    done = run(tmp_path / "run", *SMALL, *steps)
    assert done.returncode == 0, done.stderr
    network = advfool.load_fooled(tmp_path / "run")
    assert not network.training
    expected = weights_of(tmp_path / "run")
    assert all(torch.equal(value, expected[name]) for name, value in network.state_dict().items() if name in expected)
    assert network(torch.randn(2, 3, 56, 56)).shape == (2, 10)


def test_folders_that_hold_no_network_are_said(folder, tmp_path):
    with pytest.raises(
        AdvfoolError, match="expected the folder of a finished run, found no '.*nowhere/manipulated.saf"
    ):
        advfool.load_fooled(tmp_path / "nowhere")
    with pytest.raises(AdvfoolError, match=r"has no config.yaml, .* load_fooled\(folder, model=network\)"):
        advfool.load_fooled(folder)
    for content in ("fooling: {}", "model: null", "model: {name: x}"):
        (folder / "config.yaml").write_text(content)
        with pytest.raises(AdvfoolError, match="config.yaml' describes no network"):
            advfool.load_fooled(folder)
    (folder / "config.yaml").write_text("model: {_target_: advfool.training.preserve.Distillation}")
    with pytest.raises(AdvfoolError, match="Distillation"):
        advfool.load_fooled(folder)


def test_weights_of_another_network_are_refused_and_nothing_changes(folder):
    given = own_network(outputs=5)
    before = state_of(given)
    with pytest.raises(AdvfoolError, match=r"do not fit Sequential: 2 of another shape \(8.weight: network \(5, 6\)"):
        advfool.load_fooled(folder, model=given)
    assert state_of(given) == before
    (folder / "manipulated.safetensors").write_bytes(b"\x10")
    with pytest.raises(AdvfoolError, match="is not a safe weights file|cannot be read"):
        advfool.load_fooled(folder, model=given)
