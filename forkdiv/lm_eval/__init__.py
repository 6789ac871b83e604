"""Interchange with lm-evaluation-harness: its `samples_*.jsonl` and `results_*.json`.

`lm_eval run --log_samples` writes a line per document and filter. Of one that was sampled eight
times (`repeats: 8`) the keys that matter here are

    {"doc_id": 0, "doc": {…}, "target": "p n e i", "arguments": {"gen_args_0": {"arg_0": PROMPT,
     "arg_1": {"do_sample": true, "temperature": 1.0, …}}}, "resps": [["p l c d", …]],
     "filtered_resps": ["p l c d"], "filter": "none", "metrics": ["exact_match"],
     "exact_match": 0.0}

`resps` holds every response; the metric is that of what the filter left, by default the first
response alone. So a file seldom says which of its samples were correct, and they are graded here.
"""
