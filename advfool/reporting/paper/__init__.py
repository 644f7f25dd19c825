"""The paper's tables and figures from runs."""

from advfool.reporting.paper.publish import publish
from advfool.reporting.paper.tables import Cell, PaperTable, Row, paper_tables

__all__ = ["Cell", "PaperTable", "Row", "paper_tables", "publish"]
