"""What a folder of runs amounts to: a page, Markdown, LaTeX tables, and a table with a row for each result."""
