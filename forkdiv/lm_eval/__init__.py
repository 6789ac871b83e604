"""Interchange with lm-evaluation-harness: its `samples_*.jsonl` and `results_*.json`.

`lm_eval run --log_samples` writes one line for each document and filter. For a document with
eight samples (`repeats: 8`), these keys are used here:

    {"doc_id": 0, "doc": {…}, "target": "p n e i", "arguments": {"gen_args_0": {"arg_0": PROMPT,
     "arg_1": {"do_sample": true, "temperature": 1.0, …}}}, "resps": [["p l c d", …]],
     "filtered_resps": ["p l c d"], "filter": "none", "metrics": ["exact_match"],
     "exact_match": 0.0}

`resps` has every response. The metric is computed on the output of the filter, by default the
first response only. So a file rarely has a verdict on each sample, and they are graded here.
"""
