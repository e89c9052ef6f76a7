"""Small data that ships: prompts of several applications, a trace of arrivals, and how long a real LLM's answers are.

`generate.py` makes `prompts.jsonl` and `trace.csv`; their lengths are drawn by a rule. `lengths_smollm2.parquet` is
measured: one row an answer of SmolLM2-135M-Instruct (Apache-2.0), which runs here, under two system prompts and at
several temperatures. It names its prompts, of `prompts.jsonl` and of open sets under MIT, by id and keeps no text;
`train/measured.py` joins them, and its `description` says how the answers were made. An answer that was cut is marked
as censored: it is at least so long. `python -m benchmarks.measured_lengths` prints the table and measures it again.
"""
