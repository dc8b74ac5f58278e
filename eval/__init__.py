"""Stages 3 and 4: generate, judge, metrics, report."""
