"""Files that are written whole, made once, and made again where they are damaged."""

import os
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from advfool.utilities.files import cached, is_whole, locked, replacing, write_json


def save_tensors(path):
    save_file({"x": torch.arange(1000)}, path)


def save_arrays(path):
    path.mkdir()
    np.save(path / "x.npy", np.arange(1000))


@pytest.mark.parametrize("damage", [b"", b"garbage" * 9, None])
@pytest.mark.parametrize(("name", "make"), [("w.safetensors", save_tensors), ("answers", save_arrays)])
def test_a_damaged_cache_is_made_again(tmp_path, name, make, damage):
    path = cached(tmp_path / name, make)
    file = path / "x.npy" if path.is_dir() else path
    whole = file.read_bytes()
    file.write_bytes(whole[:-9] if damage is None else damage)
    assert not is_whole(path)
    assert cached(path, make) == path
    assert file.read_bytes() == whole
    assert os.listdir(tmp_path) == [name]


def test_a_cache_is_made_once_by_many_and_leaves_no_lock(tmp_path):
    made = []

    def make(path):
        made.append(path)
        save_tensors(path)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda _: cached(tmp_path / "w.safetensors", make), range(8)))
    assert len(made) == 1
    assert os.listdir(tmp_path) == ["w.safetensors"]


def test_a_lock_lets_in_one_at_a_time(tmp_path):
    inside, most = [], []

    def enter(number):
        with locked(tmp_path / ".lock"):
            inside.append(number)
            most.append(len(inside))
            inside.remove(number)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(enter, range(200)))
    assert max(most) == 1
    assert not os.listdir(tmp_path)


def write_half(path):
    with replacing(path) as part:
        part.write_text("half")
        raise OSError("disk")


def test_an_error_while_writing_leaves_the_old_file(tmp_path):
    write_json(tmp_path / "a.json", {"old": 1})
    with pytest.raises(ValueError, match="JSON"):
        write_json(tmp_path / "a.json", {"new": float("nan")})
    with pytest.raises(OSError, match="disk"):
        write_half(tmp_path / "a.json")
    assert '"old"' in (tmp_path / "a.json").read_text()
    assert os.listdir(tmp_path) == ["a.json"]
