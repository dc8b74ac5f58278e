"""Several runs side by side, with what their numbers rest on: tables, files, and a page."""
