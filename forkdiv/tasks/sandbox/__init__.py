"""Programs that a model wrote, executed behind limits that the kernel enforces."""
