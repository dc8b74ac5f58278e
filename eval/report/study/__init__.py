"""A study as pages: what was claimed and what came out, and two models side by side."""
