"""Replays a Mooncake trace with NVIDIA's ai-dynamo, in an interpreter that has it; prints CPU seconds.

Needs nothing of Forebay. Run: DYN_LOG=error PYTHON benchmarks/peer_replay.py TRACE ROUTER_MODE
"""

import json
import sys
import time

ENGINE = {
    "backend": "vllm",
    "block_size": 16,
    "num_gpu_blocks": 25_000,
    "max_num_seqs": 256,
    "max_num_batched_tokens": 2_048,
    "enable_prefix_caching": False,
    "timing_model": {"type": "polynomial"},
}
WORKERS = 20


def main(trace: str, router_mode: str) -> None:
    """One replay; the time is that of the call, all threads and parsing included."""
    from dynamo.replay import run_trace_replay

    began = time.process_time()
    report = run_trace_replay(
        trace,
        extra_engine_args={"engine": ENGINE},
        num_workers=WORKERS,
        router_mode=router_mode,
        trace_block_size=512,
    )
    cpu_s = time.process_time() - began
    print(json.dumps({"cpu_s": cpu_s, "completed": report.summary["completed_requests"]}))


if __name__ == "__main__":
    main(*sys.argv[1:])
