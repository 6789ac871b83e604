"""Decision points: finding them in data, the audit of a dataset, synthesis where they are
under-covered."""
