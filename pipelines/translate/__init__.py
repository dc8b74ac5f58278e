"""Annotations and predictions in another language: translated, checked, reviewed by people."""
