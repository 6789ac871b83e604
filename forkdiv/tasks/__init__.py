"""Tasks: one per file, each opening with a real problem. `registry.build` makes one of its config.

Nothing is imported here: the sandbox's processes load `forkdiv.tasks.sandbox` without any
installed package.
"""
