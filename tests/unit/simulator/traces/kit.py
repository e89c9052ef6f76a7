"""What the tests of readers share: files to write, one good file of each format, workloads to compare."""

import gzip
import os
from pathlib import Path

import numpy as np
import pytest

from forebay.simulator.workload.base import COLUMNS, NAMES, Workload

DATA = Path(os.environ.get("FOREBAY_DATA", Path(__file__).resolve().parents[4].parent / "shared" / "data"))
TRACES = DATA / "open" / "traces"
needs_data = pytest.mark.skipif(not TRACES.is_dir(), reason=f"the public traces are not at {TRACES}")

GOOD = {
    "azure": (
        "TIMESTAMP,ContextTokens,GeneratedTokens\n"
        "2023-11-16 18:15:46.6805900,374,44\n"
        "2023-11-16 18:15:50.9951690,396,109\n"
        "2023-11-16 18:15:51.2224670,879,55\n"
    ),
    "burstgpt": (
        "Timestamp,Model,Request tokens,Response tokens,Total tokens,Log Type\n"
        "5,ChatGPT,472,18,490,Conversation log\n"
        "45,GPT-4,1087,230,1317,API log\n"
        "118,ChatGPT,417,276,693,Conversation log\n"
    ),
    "mooncake": (
        '{"timestamp": 0, "input_length": 1100, "output_length": 500, "hash_ids": [0, 1, 2]}\n'
        '{"timestamp": 0, "input_length": 512, "output_length": 2, "hash_ids": [0]}\n'
        '{"timestamp": 3000, "input_length": 1024, "output_length": 9, "hash_ids": [0, 3]}\n'
    ),
    "splitwise": (
        "request_id,request_type,application_id,arrival_timestamp,batch_size,prompt_size,token_size\n"
        "0,2,0,0.5,1,374,44\n1,2,0,1.25,1,396,109\n2,2,1,2,1,879,55\n"
    ),
    "sageserve": (
        "request_id,batch_id,client_tenant,request_type,scenario,sla,utility,regions,model_type,workload_type,"
        "application_id,arrival_timestamp,batch_size,prompt_size,token_size\n"
        "0,-1,word,2,rag,10,1,012,A,prod,-1,0.0,1,374,44\n"
        "1,-1,excel,2,chat,43200,1,210,B,dev,-1,1.5,1,396,109\n"
        "2,-1,word,2,rag,10,1,120,A,prod,-1,2.0,1,879,55\n"
    ),
    "vidur": "arrived_at,num_prefill_tokens,num_decode_tokens\n0.0,374,44\n4.314579,396,109\n4.5e0,879,55\n",
    "requestlog": (
        '{"model": "llama", "arrival_us": 1700000000000000, "prompt_tokens": 10, "response_tokens": 5}\n'
        '{"model": "qwen", "arrival_us": 1700000000500000, "prompt_tokens": 20, "response_tokens": 6}\n'
        '{"model": "llama", "arrival_us": 1700000002000000, "prompt_tokens": 30, "response_tokens": 7}\n'
    ),
}
"""A good file of each text format: three requests."""
LINES = ("mooncake", "requestlog")
TABLES = tuple(name for name in GOOD if name not in LINES)


def written(folder: Path, text: str, name: str = "trace.csv") -> Path:
    path = folder / name
    path.write_bytes(gzip.compress(text.encode()) if name.endswith(".gz") else text.encode())
    return path


def assert_same(one: Workload, other: Workload) -> None:
    for name in (*COLUMNS, "parent_start", "parents", "block_start", "blocks"):
        assert np.array_equal(getattr(one, name), getattr(other, name)), name
    for name in (*NAMES.values(), "block_tokens"):
        assert getattr(one, name) == getattr(other, name), name
