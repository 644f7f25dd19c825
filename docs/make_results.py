"""`python docs/make_results.py`: writes what experiments/*/digits holds into docs/results.md and README.md."""

import json
import re
from pathlib import Path

ROOT = Path(__file__).parents[1]
RESULTS, README = ROOT / "docs" / "results.md", ROOT / "README.md"
BEGIN, END = "<!-- results: python docs/make_results.py -->", "<!-- end of results -->"
NETWORKS = ("vgg_tiny", "resnet_tiny", "densenet_tiny")  # of the table in the README
TITLES = {  # of the tables, with what each network's cell has
    "table1": "Table 1: FSR in %, evaluated with gradcam / lrp_t / simplegrad_t",
    "table2": "Table 2: FSR in % of active fooling, evaluated with gradcam / lrp_t / lrp",
    "table3": "Table 3: accuracy in %, top-1 / top-5",
    "table5": "Table 5: top-1 in % on the two swapped classes, c1 / c2 (the paper's is top-5, see below)",
}
FIGURES = {
    "fig2": "Figure 2: the maps of one image by three interpreters on three networks, before and after each fooling",
    "fig3": "Figure 3: composites, and the maps of both classes before and after active fooling",
    "fig4a": "Figure 4(a): AOPC curves of both networks",
    "fig4b": "Figure 4(b): accuracy and FSR under noise on the parameters",
    "fig4c": "Figure 4(c): accuracy by phase, and the maps in each phase",
    "fig5b": "Figure 5(b): Location with SimpleGrad by iteration",
    "fig7_10": "Figures 7 to 10: test loss and maps by iteration",
}


def rows_of(name: str) -> list[dict]:
    """Read the rows of an experiment's measured.json."""
    return json.loads((ROOT / "experiments" / name / "digits" / "measured.json").read_text())["result"]["rows"]


def table(name: str) -> str:
    """A row for each fooling, a column for each network: ours, and the published numbers in brackets."""
    rows = rows_of(name)
    networks = list(dict.fromkeys(column.rsplit(" ", 1)[0] for column in rows[0]["cells"]))
    lines = [["", *networks], ["---"] * (1 + len(networks))]
    for row in rows:
        line = [", ".join(label for label in row["labels"] if label != "-")]
        for network in networks:
            cells = [cell for column, cell in row["cells"].items() if column.rsplit(" ", 1)[0] == network]
            ours, theirs = " / ".join(map(_ours, cells)), " / ".join(_number(cell["reported"]) for cell in cells)
            known = any(cell["reported"] is not None for cell in cells)
            line.append(f"{ours} ({theirs})" if known and not network.endswith("_2") else ours)
        lines.append(line)
    return _as_markdown(lines)


def matched() -> str:
    """The README's table: FSR of the interpreter trained with, and top-1 after the fooling."""
    accuracy = {tuple(row["labels"]): row["cells"] for row in rows_of("table3")}
    before = (f"{network} ({_number(accuracy['original', '-'][f'{network} top1']['ours'])} %)" for network in NETWORKS)
    lines = [["fooling", "interpreter", *before], ["---", "---", *("---:" for _ in NETWORKS)]]
    for row in rows_of("table1"):
        fooling, interp = row["labels"]
        cells = [
            f"{_ours(row['cells'][f'{network} {interp}'], ' %')} / "
            f"{_number(accuracy[fooling, interp][f'{network} top1']['ours'])} %"
            for network in NETWORKS
        ]
        lines.append([f"`{fooling}`", f"`{interp}`", *cells])
    return _as_markdown(lines)


def _as_markdown(lines: list[list[str]]) -> str:
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _ours(cell: dict, unit: str = "") -> str:
    """Our number and, beside an FSR, its null and the deceptive rate where the record has them."""
    beside = [f"{name} {_number(cell[name])}" for name in ("null", "deceptive") if cell.get(name) is not None]
    return f"{_number(cell['ours'])}{unit}" + (f" ({', '.join(beside)})" if beside else "")


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.1f}"


def everything() -> str:
    """All tables and figures, for docs/results.md."""
    parts = [f"### {title}\n\n{table(name)}" for name, title in TITLES.items()]
    for name, title in FIGURES.items():
        pictures = sorted((ROOT / "experiments" / name / "digits").glob("*.png"))
        if not pictures:
            raise FileNotFoundError(f"experiments/{name}/digits has no picture: make {name} record")
        folder = f"experiments/{name}/digits"
        more = f"\n\nThe folder `{folder}` has all {len(pictures)} pictures." if len(pictures) > 1 else ""
        parts.append(f"### {title}\n\n![{title}](../{folder}/{pictures[0].name}){more}")
    return "\n\n".join(parts)


def pages() -> dict[Path, str]:
    """The pages with their generated sections as the records have them."""
    return {page: _with_section(page, section()) for page, section in ((RESULTS, everything), (README, matched))}


def _with_section(page: Path, section: str) -> str:
    pattern = f"(?<={BEGIN}\n).*?(?={END})"
    return re.sub(pattern, lambda _: f"\n{section}\n\n", page.read_text(), flags=re.DOTALL)


if __name__ == "__main__":
    for path, text in pages().items():
        path.write_text(text)
