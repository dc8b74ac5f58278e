"""Side-by-side measurements: ours, the baseline and the floors in one run on one machine."""
