/** One connection to a service: the methods of the contract as promises and asynchronous iterators. */

import { once } from "node:events";

import {
  create,
  type DescMessage,
  type DescMethodClientStreaming,
  type DescMethodServerStreaming,
  type DescMethodUnary,
  fromBinary,
  type MessageInitShape,
  type MessageShape,
  toBinary,
} from "@bufbuild/protobuf";
import {
  type CallOptions as GrpcCallOptions,
  Client,
  type ClientWritableStream,
  credentials,
  type Interceptor,
  Metadata,
  type ServiceError,
} from "@grpc/grpc-js";

import { fromCall } from "./errors.js";
import { SERVICE_CONFIG } from "./service_config.js";

/** How to reach a service. */
export interface ConnectOptions {
  /** Deadline of a call, in milliseconds. Default 10,000. Streams that watch have none. */
  timeoutMs?: number;
  /** TLS: true for the system's roots, or PEM files as buffers. Default: plaintext. */
  tls?: boolean | TlsOptions;
  /** Interceptors of grpc-js for every call, outermost first, such as `traced()` of forebay-client/telemetry. */
  interceptors?: Interceptor[];
  /** More options of grpc-js's channel. */
  channelOptions?: Record<string, string | number>;
}

/** Certificates, PEM. */
export interface TlsOptions {
  /** Roots to trust. Default: the system's. */
  rootCertificates?: Buffer;
  /** The client's key and certificates, where the server asks for them. */
  privateKey?: Buffer;
  certificateChain?: Buffer;
}

/** What one call may say. */
export interface CallOptions {
  /** Ends the call; it then throws the signal's reason. */
  signal?: AbortSignal;
  /** Deadline in milliseconds in place of the client's. */
  timeoutMs?: number;
  /** Headers to send along. */
  metadata?: Record<string, string>;
}

interface Cancellable {
  cancel(): void;
}

/** A connection: it connects lazily, retries by the service config, and reconnects by itself. */
export class Channel {
  readonly #client: Client;
  readonly #timeoutMs: number;
  readonly #metadata: Record<string, string>;

  constructor(address: string, options: ConnectOptions = {}, metadata: Record<string, string> = {}) {
    this.#timeoutMs = options.timeoutMs ?? 10_000;
    this.#metadata = metadata;
    this.#client = new Client(address, credentialsOf(options.tls), {
      "grpc.keepalive_time_ms": 20_000,
      "grpc.keepalive_timeout_ms": 5_000,
      "grpc.service_config": SERVICE_CONFIG,
      ...options.channelOptions,
      interceptors: options.interceptors ?? [],
    });
  }

  /** Ends the connection and the calls on it. */
  close(): void {
    this.#client.close();
  }

  /** Sends one message and waits for one. */
  unary<I extends DescMessage, O extends DescMessage>(
    method: DescMethodUnary<I, O>,
    request: MessageInitShape<I>,
    options: CallOptions = {},
  ): Promise<MessageShape<O>> {
    return this.#answer(options, (done) =>
      this.#client.makeUnaryRequest(
        pathOf(method),
        asIs,
        reader(method.output),
        encoded(method.input, request),
        this.#headers(options),
        this.#deadline(options),
        done,
      ),
    );
  }

  /** Sends messages one after the other, as fast as they are taken, and waits for one. */
  clientStream<I extends DescMessage, O extends DescMessage>(
    method: DescMethodClientStreaming<I, O>,
    requests: Iterable<MessageInitShape<I>>,
    options: CallOptions = {},
  ): Promise<MessageShape<O>> {
    return this.#answer(options, (done, fail) => {
      const call = this.#client.makeClientStreamRequest(
        pathOf(method),
        asIs,
        reader(method.output),
        this.#headers(options),
        this.#deadline(options),
        done,
      );
      pump(call, method.input, requests).catch((error: unknown) => {
        call.cancel();
        fail(error);
      });
      return call;
    });
  }

  /** Sends one message and gives those that come back; leaving the loop ends the call. */
  async *serverStream<I extends DescMessage, O extends DescMessage>(
    method: DescMethodServerStreaming<I, O>,
    request: MessageInitShape<I>,
    options: CallOptions = {},
  ): AsyncGenerator<MessageShape<O>, void, undefined> {
    options.signal?.throwIfAborted();
    const limits = options.timeoutMs === undefined ? {} : this.#deadline(options);
    const call = this.#client.makeServerStreamRequest(
      pathOf(method),
      asIs,
      reader(method.output),
      encoded(method.input, request),
      this.#headers(options),
      limits,
    );
    call.on("error", () => {}); // Whoever leaves the loop early hears no error of the call that this ends.
    const release = cancelOn(options.signal, call);
    try {
      for await (const message of call) yield message as MessageShape<O>;
    } catch (error) {
      options.signal?.throwIfAborted();
      throw fromCall(error);
    } finally {
      release();
      call.cancel();
    }
  }

  #answer<T>(
    options: CallOptions,
    start: (done: (error: ServiceError | null, value?: T) => void, fail: (error: unknown) => void) => Cancellable,
  ): Promise<T> {
    return new Promise((resolve, reject) => {
      options.signal?.throwIfAborted();
      let release = (): void => {};
      const call = start((error, value) => {
        release();
        if (!error) resolve(value as T);
        else reject(options.signal?.aborted ? options.signal.reason : fromCall(error));
      }, reject);
      release = cancelOn(options.signal, call);
    });
  }

  #headers(options: CallOptions): Metadata {
    const headers = new Metadata();
    for (const [name, value] of Object.entries({ ...this.#metadata, ...options.metadata })) headers.set(name, value);
    return headers;
  }

  #deadline(options: CallOptions): GrpcCallOptions {
    return { deadline: Date.now() + (options.timeoutMs ?? this.#timeoutMs) };
  }
}

function credentialsOf(tls: boolean | TlsOptions | undefined): ReturnType<typeof credentials.createInsecure> {
  if (!tls) return credentials.createInsecure();
  const { rootCertificates, privateKey, certificateChain } = tls === true ? ({} as TlsOptions) : tls;
  return credentials.createSsl(rootCertificates, privateKey, certificateChain);
}

async function pump<D extends DescMessage>(
  call: ClientWritableStream<Buffer>,
  schema: D,
  messages: Iterable<MessageInitShape<D>>,
): Promise<void> {
  for (const message of messages) {
    if (!call.write(encoded(schema, message))) await once(call, "drain");
  }
  call.end();
}

function cancelOn(signal: AbortSignal | undefined, call: Cancellable): () => void {
  if (!signal) return () => {};
  const cancel = (): void => call.cancel();
  signal.addEventListener("abort", cancel, { once: true });
  return () => signal.removeEventListener("abort", cancel);
}

function pathOf(method: { parent: { typeName: string }; name: string }): string {
  return `/${method.parent.typeName}/${method.name}`;
}

/** The bytes of a message; they are made before the call, so that a value that does not fit is thrown as what it is. */
function encoded<D extends DescMessage>(schema: D, message: MessageInitShape<D>): Buffer {
  const bytes = toBinary(schema, create(schema, message));
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}

function asIs(bytes: Buffer): Buffer {
  return bytes;
}

function reader<D extends DescMessage>(schema: D): (bytes: Buffer) => MessageShape<D> {
  return (bytes) => fromBinary(schema, bytes);
}
