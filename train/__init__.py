"""Stage 2: projectors in front of a frozen LLM, trained on cached features."""
