"""Any number of audits joined into one table and one page."""
