"""Stage 1: video → frames → frozen ViT → pooled features → shard."""
