"""Weights under other names, in other containers, and with values that no network should have."""

import logging
import os
from collections import OrderedDict

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from advfool.models.base import NetworkSource
from advfool.models.prefixes import bare
from advfool.models.weights import fit_weights, read_classes, read_weights
from advfool.utilities.errors import AdvfoolError


def create(outputs=3):
    features = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))
    parts = {"features": features, "pool": nn.AdaptiveAvgPool2d(1), "flat": nn.Flatten(), "fc": nn.Linear(4, outputs)}
    return nn.Sequential(OrderedDict(parts))


class Source(NetworkSource):
    def create(self, num_classes):
        return create(num_classes)


def build(path):
    return Source("own", str(path)).build(("a", "b", "c"))


def same(network, other):
    ours, theirs = network.state_dict().values(), other.state_dict().values()
    return all(torch.equal(a, b) for a, b in zip(ours, theirs, strict=True))


PREFIXES = ["module.", "_orig_mod.", "model.", "network.", "net."]
PREFIXES += ["module._orig_mod.", "_orig_mod.module.", "model.module.", "network.model._orig_mod.", "module.module."]


@pytest.mark.parametrize("prefix", PREFIXES)
@pytest.mark.parametrize("suffix", [".pt", ".safetensors", ".ckpt"])
def test_prefixes_of_wrappers_are_stripped_where_weights_fit_only_so(tmp_path, prefix, suffix):
    original = create()
    state = {prefix + name: value for name, value in original.state_dict().items()}
    path = tmp_path / f"w{suffix}"
    save_file(state, path) if suffix == ".safetensors" else torch.save(state, path)
    assert same(build(path), original)


class Wrapped(nn.Module):
    def __init__(self, network):
        super().__init__()
        self.model = network
        self.register_buffer("mean", torch.rand(3))


def test_a_prefix_that_is_the_networks_own_stays():
    first, second = Wrapped(create()), Wrapped(create())
    fit_weights(second, first.state_dict(), "w.pt")
    assert same(first, second)
    fit_weights(second, {f"module.{name}": value for name, value in Wrapped(create()).state_dict().items()}, "w.pt")
    assert not same(first, second)
    compiled = torch.compile(create())
    for state in (first.model.state_dict(), nn.DataParallel(first.model).state_dict()):
        fit_weights(compiled, state, "w.pt")
        assert same(compiled, first.model)
    twins = nn.ModuleDict({"a": nn.Linear(2, 2), "model": nn.ModuleDict({"a": nn.Linear(2, 2)})})
    fit_weights(twins, {name: value + 1 for name, value in twins.state_dict().items()}, "w.pt")
    with pytest.raises(AdvfoolError, match=r"not clear: both 'a.weight' and 'model.a.weight'"):
        fit_weights(nn.ModuleDict({"a": nn.Linear(2, 2)}), twins.state_dict(), "w.pt")


def test_parts_that_were_wrapped_fit_and_what_is_outside_of_the_network_is_left_out():
    network, other = create(), create()
    network.features = nn.DataParallel(network.features)
    fit_weights(other, network.state_dict(), "w.pt")
    assert same(network, other)
    state = {f"model.{name}": value for name, value in create().state_dict().items()}
    fit_weights(other, state | {"loss.weight": torch.ones(3), "ema.features.0.weight": torch.ones(1)}, "w.pt")
    assert torch.equal(other.fc.weight, state["model.fc.weight"])
    assert bare("model._orig_mod.a.module.b") == "a.b"


def test_weights_of_another_shape_are_named_behind_their_prefix():
    state = {f"module.{name}": value for name, value in create(7).state_dict().items()}
    state["module.extra"] = torch.zeros(1)
    del state["module.features.0.weight"]
    with pytest.raises(AdvfoolError) as error:
        fit_weights(create(), state, "w.pt")
    assert str(error.value) == (
        "The weights in w.pt do not fit Sequential: 1 missing (features.0.weight); 1 unexpected (extra); 2 of another "
        "shape (fc.weight: network (3, 4), file (7, 4), fc.bias: network (3,), file (7,)). Give weights of the same "
        "architecture with as many classes as the data."
    )


CONTAINERS = ["state_dict", "model_state_dict", "model", "network", "net", "state_dict_ema", "model_ema", "module"]


@pytest.mark.parametrize("key", CONTAINERS)
def test_checkpoints_of_every_kind_give_their_network(tmp_path, key):
    network = create()
    torch.save({"epoch": 3, key: network.state_dict(), "optimizer": {"state": {}}}, tmp_path / "w.pt")
    assert same(build(tmp_path / "w.pt"), network)


def test_the_trained_weights_are_taken_rather_than_averaged_ones_and_the_log_says_so(tmp_path, caplog):
    network, averaged = create(), create()
    content = {"model_ema": averaged.state_dict(), "model": network.state_dict(), "arch": "x"}
    torch.save(content, tmp_path / "w.pt")
    assert same(build(tmp_path / "w.pt"), network)
    assert "'model' is read; there are model_ema as well." in caplog.text
    torch.save({"checkpoint": 1, "state_dict": {"model": network.state_dict()}}, tmp_path / "w.pt")
    assert same(build(tmp_path / "w.pt"), network)


def test_a_checkpoint_of_lightning_whose_network_is_called_otherwise(tmp_path, caplog):
    caplog.set_level(logging.INFO)
    network = create()
    state = {f"model.{name}": value for name, value in network.state_dict().items()} | {"loss.w": torch.ones(1)}
    torch.save({"state_dict": state, "pytorch-lightning_version": "2.6"}, tmp_path / "last.ckpt")
    assert same(build(tmp_path / "last.ckpt"), network)
    assert "1 tensors outside of the network are left out" in caplog.text


def changed(name, value):
    return create().state_dict() | {name: value}


WEIGHT, BIAS, NORM = "fc.weight", "fc.bias", "features.1."
BAD = {
    "nan": (WEIGHT, lambda v: v * torch.nan, "has 12 of 12 values that are NaN or infinite"),
    "infinite": (BIAS, lambda v: torch.tensor([0, -torch.inf, 1]), "has 1 of 3 values that are NaN or infinite"),
    "too large": (BIAS, lambda v: v.double() + 1e300, "has 3 of 3 values that are NaN or infinite in torch.float32"),
    "nan in a buffer": (f"{NORM}running_mean", lambda v: v * torch.nan, "has 4 of 4 values that are NaN or infinite"),
    "negative variance": (f"{NORM}running_var", lambda v: -v, r"has negative variances \(down to -1\)"),
    "integers": (WEIGHT, lambda v: v.long(), "has values of torch.int64, expected floats"),
    "bytes": (WEIGHT, lambda v: v.byte(), "has values of torch.uint8, expected floats"),
    "booleans": (WEIGHT, lambda v: v.bool(), "has values of torch.bool, expected floats"),
    "complex": (WEIGHT, lambda v: v * 1j, "has values of torch.complex64, expected"),
    "fractions": (f"{NORM}num_batches_tracked", lambda v: v + 0.5, "has fractions"),
    "sparse": (WEIGHT, lambda v: v.to_sparse(), r"is sparse \(torch.sparse_coo\)"),
    "sparse rows": (WEIGHT, lambda v: v.to_sparse_csr(), r"is sparse \(torch.sparse_csr\)"),
    "meta": (WEIGHT, lambda v: v.to("meta"), r"is without values \(on the device meta\)"),
    "quantised": (
        WEIGHT,
        lambda v: torch.quantize_per_tensor(v, 0.1, 0, torch.qint8),
        r"is quantised \(torch.qint8\)",
    ),
}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("prefix", ["", "module."])
@pytest.mark.parametrize("kind", BAD)
def test_values_that_no_network_should_have_are_refused_by_name(tmp_path, kind, prefix):
    name, change, message = BAD[kind]
    state = create().state_dict()
    state = {prefix + key: change(value) if key == name else value for key, value in state.items()}
    with pytest.raises(AdvfoolError, match=f"'(module.)?{name}' .*{message}"):
        fit_weights(create(), state, "w.pt")
    torch.save(state, tmp_path / "w.pt")
    with pytest.raises(AdvfoolError, match=f"'(module.)?{name}' .*{message}"):
        build(tmp_path / "w.pt")


def test_other_precisions_and_infinite_masks_are_taken():
    network = create()
    for dtype in (torch.float64, torch.float16, torch.bfloat16):
        state = {k: v.to(dtype) if v.is_floating_point() else v for k, v in create().state_dict().items()}
        fit_weights(network, state, "w.pt")
        assert network.fc.weight.dtype == torch.float32
    fit_weights(network, changed("features.1.num_batches_tracked", torch.tensor(5.0)), "w.pt")
    assert network.features[1].num_batches_tracked == 5
    network.register_buffer("mask", torch.tensor([0, -torch.inf]))
    fit_weights(network, network.state_dict(), "w.pt")
    with pytest.raises(AdvfoolError, match="'mask' has 1 of 2 values"):
        fit_weights(network, network.state_dict() | {"mask": torch.tensor([torch.inf, 0])}, "w.pt")


class Evil:
    def __reduce__(self):
        return exec, ("raise AssertionError('code in the file was run')",)


FILES = {
    "whole network": (lambda p: torch.save(create(), p), "could run code"),
    "code": (lambda p: torch.save({"state_dict": {"a": Evil()}}, p), "could run code"),
    "truncated": (
        lambda p: (torch.save(create().state_dict(), p), p.write_bytes(p.read_bytes()[:900])),
        "not a safe weights file",
    ),
    "empty file": (lambda p: p.write_bytes(b""), "not a safe weights file"),
    "picture": (lambda p: p.write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(99)), "not a safe weights file"),
    "archive": (lambda p: p.write_bytes(b"PK\x05\x06" + bytes(18)), "not a safe weights file"),
    "script": (lambda p: torch.jit.script(create()).save(p), "not a safe weights file"),
    "safetensors by another name": (lambda p: save_file(create().state_dict(), p), "not a safe weights file"),
    "empty dict": (lambda p: torch.save({}, p), "holds no tensors: .* got an empty dict"),
    "empty state dict": (lambda p: torch.save({"state_dict": {}}, p), r"holds no tensors: .* got state_dict \(dict\)"),
    "numbers": (
        lambda p: torch.save({"epoch": 3, "lr": 0.1}, p),
        r"holds no tensors: .* got epoch \(int\), lr \(float\)",
    ),
    "some numbers": (
        lambda p: torch.save(create().state_dict() | {"epoch": 3}, p),
        r"has entries that are no tensors with a name: epoch \(int\)",
    ),
    "no names": (lambda p: torch.save({0: torch.ones(1), "a": torch.ones(1)}, p), r"no tensors with a name: 0 \(int\)"),
    "a tensor": (lambda p: torch.save(torch.ones(3), p), "holds Tensor, not a state dict"),
    "folder": (lambda p: p.mkdir(), "is no regular file, but a folder, pipe or device"),
    "pipe": (os.mkfifo, "is no regular file, but a folder, pipe or device"),
    "broken link": (lambda p: p.symlink_to("nothing"), "no file"),
    "link to itself": (lambda p: p.symlink_to(p), "no file|cannot be read"),
}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("kind", FILES)
@pytest.mark.timeout(30)
def test_files_that_hold_no_state_dict_are_refused_by_their_path(tmp_path, kind):
    write, message = FILES[kind]
    path = tmp_path / "w.pt"
    write(path)
    with pytest.raises(AdvfoolError, match=message) as error:
        build(path)
    assert str(path) in str(error.value)
    assert "weights_only=False" not in str(error.value)


@pytest.mark.parametrize("classes", ['{"a": 1}', "[1, 2, 3]", "not json", '"abc"'])
def test_classes_that_are_no_names_are_refused(tmp_path, classes):
    path = tmp_path / "w.safetensors"
    save_file(create().state_dict(), path, metadata={"classes": classes})
    with pytest.raises(AdvfoolError, match="classes|not a safe weights file"):
        read_classes(path)
    path.write_bytes(path.read_bytes()[:50])
    with pytest.raises(AdvfoolError, match="not a safe weights file"):
        read_weights(path)
