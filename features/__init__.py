"""What the stages share: spec, pooling, stores, annotations, recipes. A leaf: no heavy imports."""
