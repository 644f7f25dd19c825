"""The paper's tables and figures from runs."""

from advfool.published.publish import publish
from advfool.published.tables import Cell, PublishedTable, Row, published_tables

__all__ = ["Cell", "PublishedTable", "Row", "publish", "published_tables"]
