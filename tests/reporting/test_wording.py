"""Links and numbers as people write them."""

from pathlib import Path

from advfool.reporting import wording


def test_links_are_addresses_and_numbers_are_as_people_write_them():
    assert wording.link('a <b>/"c"#?') == "a%20%3Cb%3E/%22c%22%23%3F"
    assert (wording.number(-0.001), wording.number(-1.25, 2), wording.number(None)) == (
        "0.0",
        f"{wording.MINUS}1.25",
        wording.TO,
    )
    assert Path(wording.link("javascript:alert(1)")).name == "javascript%3Aalert%281%29"


def test_names_that_the_paper_does_not_have_stay_as_they_are():
    assert (wording.interp("mine"), wording.fooling("mine"), wording.word("mine")) == ("mine",) * 3
    assert sorted(["mine", "active", "location"], key=wording.rank) == ["location", "active", "mine"]
