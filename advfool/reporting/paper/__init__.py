"""The tables and figures of the paper, made from finished runs."""

from advfool.reporting.paper.publish import publish
from advfool.reporting.paper.tables import Cell, PaperTable, TableRow, paper_tables

__all__ = ["Cell", "PaperTable", "TableRow", "paper_tables", "publish"]
