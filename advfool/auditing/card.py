"""card.md: an audit on one page for a paper, a model card or a pull request, and how to cite it."""

import re
from collections.abc import Mapping
from typing import Any

from advfool.auditing.noticed import noticed
from advfool.auditing.page import cells, percent, ranking, sentence
from advfool.utilities.text import markdown, printable

CARD = "card.md"
BIBTEX = """@misc{advfool_am1,
  title  = {advfool: audits of interpreters under adversarial model manipulation, suite %s},
  author = {{The advfool authors}},
  note   = {Software, version %s},
  year   = {2026}
}

@inproceedings{heo2019fooling,
  title     = {Fooling Neural Network Interpretations via Adversarial Model Manipulation},
  author    = {Heo, Juyeon and Joo, Sunghwan and Moon, Taesup},
  booktitle = {Advances in Neural Information Processing Systems},
  volume    = {32},
  year      = {2019}
}"""
HEADS = ("interpreter", "verdict", "deceptive rate", "95 % interval", "FSR (null)", "top-1 drop", "accuracy")


def card(record: Mapping[str, Any]) -> str:
    """Write the card of an audit in Markdown; every text of the record is escaped.

    Args:
        record: the contents of audit.json.
    """
    ranked = ranking(record)
    top1 = percent(record["budget"]["top1"])
    images = record["images"]
    parts = [
        f"# Can the heatmaps of {markdown(record['model'])} be made to lie?",
        f"Audit {markdown(record['suite'])} on {markdown(record['data'])}: an attacker may spend {top1} of top-1 "
        f"accuracy. Measured on {images['test']} test images that nothing was chosen on.",
        "\n".join(f"- {markdown(sentence(name, found))}" for name, found in ranked),
        _table(ranked),
        *([f"Would anyone notice? {markdown(noticed(record))}"] if record.get("population") is not None else []),
        "## Threat model",
        markdown(record["threat_model"]),
        "## How to repeat it",
        _code(record["repeat"]),
        f"Seed {record['seed']}, commit {markdown(record['environment']['commit'] or 'unknown')}, "
        f"{images['train']} training and {images['selection']} selection images. Original network: SHA-256 "
        f"{markdown(record['original_sha256'])}. Everything that was tried is in `audit.json`.",
        "## How to cite it",
        _code(bibtex(record), "bibtex"),
    ]
    return "\n\n".join(parts) + "\n"


def bibtex(record: Mapping[str, Any]) -> str:
    """Write the BibTeX entries of the suite and of the paper whose method it is."""
    version = (record["environment"]["versions"] or {}).get("advfool") or "unknown"
    return BIBTEX % tuple(re.sub(r"[^\w.+-]", "", str(each)) for each in (record["suite"], version))


def _table(ranked: list[tuple[str, Mapping[str, Any]]]) -> str:
    lines = ["| " + " | ".join(HEADS) + " |", "|---|---|---:|---:|---:|---:|---|"]
    lines += ["| " + " | ".join(map(markdown, cells(name, found))) + " |" for name, found in ranked]
    return "\n".join(lines)


def _code(text: str, language: str = "console") -> str:
    """Put a text into a block of code, which no backticks in it can end."""
    plain = printable(text)
    fence = "`" * max(3, 1 + max(map(len, re.findall(r"`+", plain)), default=0))
    return f"{fence}{language}\n{plain}\n{fence}"
