"""Image LLM bases, prompts, projectors, splice and the trainer that adjusts the projectors."""
