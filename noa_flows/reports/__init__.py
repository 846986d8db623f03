"""How rows become a report: tables, charts, named templates, and a writer for each format."""
