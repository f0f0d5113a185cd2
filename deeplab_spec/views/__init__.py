"""What pages and texts share: tables, Markdown, CSV, SVG, templates, files, progress."""
