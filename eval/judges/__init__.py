"""Who says that an answer is right: rules, an endpoint, a local model; all behind one `Judge`."""
