"""Small files in the published forms of the benchmarks, invented for the tests."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

Record = Mapping[str, Any]

GSM8K = [
    {"question": f"Ann has {n} boxes of 4 pens. How many?", "answer": f"{n} * 4\n#### {4 * n:,}"}
    for n in range(2, 8)
] + [{"question": "A town of 1,000 doubles. How large?", "answer": "2 * 1000\n#### 2,000"}]
MATH = [
    {
        "problem": f"Compute $\\frac{{1}}{{2}} + {n}$.",
        "solution": f"It is $\\boxed{{\\frac{{{2 * n + 1}}}{{2}}}}$.",
        "answer": f"\\frac{{{2 * n + 1}}}{{2}}",
        "unique_id": f"test/sums/{n}.json",
    }
    for n in range(3)
]
AIME = [
    {"ID": f"2024-I-{n}", "Problem": f"Find {n} + 20.", "Solution": f"{n + 20}", "Answer": n + 20}
    for n in range(3)
]
HUMANEVAL = [
    {
        "task_id": "Own/0",
        "prompt": 'def half(n: int) -> float:\n    """Half of n.\n    >>> half(3)\n    1.5\n'
        '    """\n',
        "canonical_solution": "    return n / 2\n",
        "test": "def check(candidate):\n    assert candidate(3) == 1.5\n",
        "entry_point": "half",
    },
    {
        "task_id": "Own/1",
        "prompt": "from typing import List\n\n\ndef twice(n: int) -> int:\n    return 2 * n\n\n\n"
        'def largest(ns: List[int]) -> int:\n    """Twice the largest number, with twice()."""\n',
        "canonical_solution": "    return max(twice(n) for n in ns)\n",
        "test": "METADATA = {}\n\n\ndef check(candidate):\n    assert candidate([1, 3]) == 6\n",
        "entry_point": "largest",
    },
]
MBPP = [
    {
        "task_id": number,
        "text": f"Write a function to add {number} to a number.",
        "code": f"import math\r\ndef add_{number}(n):\r\n  return math.floor(n) + {number}",
        "test_list": [f"assert add_{number}(1) == {number + 1}"],
        "test_setup_code": "",
        "challenge_test_list": [],
    }
    for number in (2, 3, 11, 12, 510, 511, 600, 974)
]
SANITIZED = [
    {
        "task_id": row["task_id"],
        "prompt": row["text"],
        "code": row["code"],
        "test_imports": ["import math"],
        "test_list": [f"assert math.isclose(add_{row['task_id']}(0), {row['task_id']})"],
    }
    for row in MBPP
]


def write(folder: Path, records: Iterable[Record], name: str = "rows.jsonl") -> Path:
    path = folder / name
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    return path
