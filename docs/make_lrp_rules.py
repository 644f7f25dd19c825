"""`python docs/make_lrp_rules.py`: writes the table of LRP's rules from the code into docs/lrp_rules.md."""

from pathlib import Path

from advfool.interpreters.lrp.keys import name_of
from advfool.interpreters.lrp.operations import KINDS, Kind

PAGE = Path(__file__).parent / "lrp_rules.md"
BEGIN, END = "<!-- rules: python docs/make_lrp_rules.py -->", "<!-- end of rules -->"


def table() -> str:
    """Return the table of all operations with what happens to their relevance."""
    lines = ["| operations | what happens to relevance | why |", "|---|---|---|"]
    for kind in KINDS:
        lines.append(f"| **{kind.title}**: {_names(kind)} | {kind.rule} | {kind.reason} |")
    return "\n".join(lines)


def _names(kind: Kind) -> str:
    """Return the names of the operations: modules first, then functions, methods and attributes of tensors."""
    names = {name_of(key) for key in kind.keys}
    return ", ".join(f"`{name}`" for name in sorted(names, key=lambda name: (not name[0].isupper(), name)))


def written(text: str) -> str:
    """Return the page with the present table."""
    before, rest = text.split(BEGIN)
    return f"{before}{BEGIN}\n\n{table()}\n\n{END}{rest.split(END)[1]}"


if __name__ == "__main__":
    PAGE.write_text(written(PAGE.read_text()))
