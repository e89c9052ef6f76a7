/** Deferred work over gRPC: jobs of many requests that nobody waits for. */

import { randomUUID } from "node:crypto";

import type { MessageInitShape } from "@bufbuild/protobuf";

import { type CallOptions, Channel, type ConnectOptions } from "./channel.js";
import { DeferredService, type SubmitJobRequestSchema } from "./gen/lmaas/deferred/v1/deferred_service_pb.js";
import type { Job, Result } from "./gen/lmaas/deferred/v1/job_pb.js";

const REQUEST_COUNT = 500;
const PART_BYTES = 1 << 20;
const SUBMIT_TIMEOUT_MS = 600_000;

type Part = MessageInitShape<typeof SubmitJobRequestSchema>;
type Bodies = Readonly<Record<string, object>> | Iterable<readonly [customId: string, body: object]>;

/** How to reach a gateway, and as whom. */
export interface DeferredOptions extends ConnectOptions {
  /** The tenant's key, where the gateway wants one. */
  key?: string;
  /** The tenant, where no tenant has a key. */
  tenant?: string;
}

/** What a job may say. */
export interface SubmitOptions extends CallOptions {
  /** Endpoint that the bodies are written for. Default "/v1/chat/completions". */
  endpoint?: string;
  /** Seconds until all is due. Default one day. */
  windowS?: number;
  /** Notes that come back with the job. */
  notes?: Record<string, string>;
  /** The same id gives the same job: choose one to be able to try again after a failure. */
  requestId?: string;
}

/** Talks to a gateway about jobs. Every verb throws ForebayError; `close` ends the connection. */
export class DeferredClient {
  readonly #channel: Channel;

  constructor(gateway = "127.0.0.1:7081", options: DeferredOptions = {}) {
    const headers: Record<string, string> = {};
    if (options.key) headers["authorization"] = `Bearer ${options.key}`;
    if (options.tenant) headers["x-forebay-tenant"] = options.tenant;
    this.#channel = new Channel(gateway, options, headers);
  }

  /** Ends the connection and the calls on it. */
  close(): void {
    this.#channel.close();
  }

  [Symbol.dispose](): void {
    this.close();
  }

  /** Makes a job of bodies as the endpoint takes them, by names of the caller's; returns once all is kept. */
  async submit(bodies: Bodies, options: SubmitOptions = {}): Promise<Job> {
    const limits = { ...options, timeoutMs: options.timeoutMs ?? SUBMIT_TIMEOUT_MS };
    const answer = await this.#channel.clientStream(DeferredService.method.submitJob, partsOf(bodies, options), limits);
    return answer.job as Job;
  }

  /** A job as it stands. */
  async job(jobId: string, options?: CallOptions): Promise<Job> {
    return (await this.#channel.unary(DeferredService.method.getJob, { jobId }, options)).job as Job;
  }

  /** Ends a job without the requests that have no answer yet. */
  async cancel(jobId: string, options?: CallOptions): Promise<Job> {
    const request = { jobId, requestId: freshId() };
    return (await this.#channel.unary(DeferredService.method.cancelJob, request, options)).job as Job;
  }

  /** The job at once and after every change, until it has ended. */
  async *watch(jobId: string, options?: CallOptions): AsyncGenerator<Job, void, undefined> {
    const stream = this.#channel.serverStream(DeferredService.method.watchJob, { jobId }, options);
    for await (const message of stream) yield message.job as Job;
  }

  /** How the job's requests ended, in the order of submission, those of now. */
  async *results(
    jobId: string,
    options: CallOptions & { afterNumber?: bigint } = {},
  ): AsyncGenerator<Result, void, undefined> {
    const request = { jobId, afterNumber: options.afterNumber ?? 0n };
    const stream = this.#channel.serverStream(DeferredService.method.streamResults, request, options);
    for await (const message of stream) yield* message.results;
  }
}

function* partsOf(bodies: Bodies, options: SubmitOptions): Generator<Part, void, undefined> {
  let part: Required<Pick<Part, "requests">> & Part = {
    requestId: options.requestId || freshId(),
    spec: {
      endpoint: options.endpoint ?? "/v1/chat/completions",
      completionWindow: { seconds: BigInt(options.windowS ?? 86_400) },
      metadata: options.notes ?? {},
    },
    requests: [],
  };
  let size = 0;
  for (const [customId, value] of entriesOf(bodies)) {
    const body = JSON.stringify(value);
    const bytes = Buffer.byteLength(body);
    if (part.requests.length === REQUEST_COUNT || (size > 0 && size + bytes > PART_BYTES)) {
      yield part;
      part = { requests: [] };
      size = 0;
    }
    part.requests.push({ customId, body });
    size += bytes;
  }
  yield part;
}

function entriesOf(bodies: Bodies): Iterable<readonly [string, object]> {
  return Symbol.iterator in bodies ? (bodies as Iterable<readonly [string, object]>) : Object.entries(bodies);
}

function freshId(): string {
  return randomUUID().replaceAll("-", "");
}
