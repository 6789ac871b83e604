"""Fuzzing: damaged configs, files of rows, templates, checkpoints, stores, commands and requests.

    python -m tests.fuzz readers --seed 7 --cases 3000
    python -m tests.fuzz commands --seed 7 --cases 60
    python -m tests.fuzz requests --seed 7 --cases 200 --url http://127.0.0.1:8000
    python -m tests.fuzz readers --seed 7 --only 1234        # one case again

Case number N of seed S is drawn from `random.Random(f"{S}/{N}")`, so that it does not depend on the
cases before it. `tests/soak/test_fuzz.py` runs all three.
"""
