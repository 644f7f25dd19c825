"""Reports of a folder of runs: a web page, Markdown, LaTeX tables, and one table of all results."""
