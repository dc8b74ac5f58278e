"""The commands, the recipes and the demo world."""
