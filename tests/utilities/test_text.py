"""Texts of strangers, fit for a terminal, a file name or a table."""

import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from advfool.utilities.errors import AdvfoolError
from advfool.utilities.text import cell, file_name, printable

ANY = st.text(st.characters(codec=None, categories=None)) | st.sampled_from(["..", ".", "/", "", "a/../b", "\x00"])


@given(ANY)
def test_printable_texts_command_nothing(text):
    found = printable(text)
    assert not {"\x1b", "\r", "\b", "\x07", "\x00", "\x9b", "\u202e"} & set(found)
    assert printable(found) == found
    found.encode()


@given(ANY)
def test_file_names_stay_in_their_folder(text):
    name = file_name(text)
    assert name == os.path.basename(name)
    assert name not in ("", ".", "..")
    assert not name.startswith((".", "-"))
    assert len(name) <= 110


@given(ANY, ANY)
def test_different_names_stay_different(one, other):
    assert (file_name(one) == file_name(other)) == (one == other)


@given(st.sampled_from(["=", "+", "-", "@", "\t", "\r", " =", "\x1b[0m=", "\uff1d"]), st.text())
def test_cells_are_no_formulas(start, text):
    found = cell(start + text)
    assert (
        found.startswith("'")
        or not found.lstrip().startswith(("=", "+", "-", "@", "\uff1d"))
        or float(found) is not None
    )


@pytest.mark.parametrize("number", ["-1", "+2.5", "-1e-3", "-.5", "3"])
def test_numbers_stay_numbers(number):
    assert cell(number) == number


def test_errors_do_not_command_the_terminal():
    assert str(AdvfoolError("a\x1b[2J\x1b]8;;http://x\x07b\nc")) == "ab\nc"
