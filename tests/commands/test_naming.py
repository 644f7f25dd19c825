"""Folders' names and paths, as every shell and Hydra take them."""

import re

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser

from advfool.commands.naming import folder_name, name_start, quoted, started, with_quoted_paths


def test_starts_within_one_second_have_different_names(monkeypatch):
    monkeypatch.setenv("ADVFOOL_STARTED", "")
    names = []
    for _ in range(50):
        name_start()
        assert started() == started()
        names.append(started())
    assert len(set(names)) == 50
    assert all(re.fullmatch(r"[\w-]+", name) for name in names)


@pytest.mark.parametrize("name", ["a b", "../x", "a=1,b=[2]", "ü$(rm)", "x" * 500, "", ".", "a'\"b", "${oc.env:HOME}"])
def test_names_are_safe_and_stay_in_their_folder(name):
    found = folder_name(name, "location", name)
    assert re.fullmatch(r"[A-Za-z0-9_.-]{1,100}", found)
    assert ".." not in found
    assert "${" not in found


@pytest.mark.parametrize("name", ["plain", "a b", "a,b=[c]", "it's", 'a "b"', "{x}", "a\\b", "$(x)", "ü", "a:b;c#d"])
def test_hydra_takes_the_path_of_any_folder_that_exists(tmp_path, name):
    folder = tmp_path / name
    folder.mkdir()
    (argument,) = with_quoted_paths([f"run={folder}"])
    assert OverridesParser.create().parse_override(argument).value() in (str(folder), f"{folder}")
    assert OverridesParser.create().parse_override(f"run={quoted(str(folder))}").value() == str(folder)


def test_what_is_no_path_stays_as_it_is():
    arguments = ["seed=0,1", "-m", "evaluate_with=[lrp,ig]", "model.weights=null", "trainable=[layer4,fc]", "--help"]
    assert with_quoted_paths(arguments) == arguments
