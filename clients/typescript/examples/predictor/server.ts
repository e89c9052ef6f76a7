/** Serves methods of the contract with grpc-js: rules are checked first, and errors carry reason and violations. */

import { create, type DescMethodUnary, type DescService, fromBinary, type MessageShape, toBinary } from "@bufbuild/protobuf";
import { anyPack } from "@bufbuild/protobuf/wkt";
import {
  type handleUnaryCall,
  Metadata,
  type MethodDefinition,
  type sendUnaryData,
  Server,
  ServerCredentials,
  type ServerUnaryCall,
  status,
} from "@grpc/grpc-js";

import { BadRequestSchema, ErrorInfoSchema } from "../../src/gen/google/rpc/error_details_pb.js";
import { StatusSchema } from "../../src/gen/google/rpc/status_pb.js";
import { violationsOf } from "./rules.js";

const SERVING = Buffer.from([8, 1]);

/** What a handler throws to end its call with a status. */
export class Refusal extends Error {
  constructor(
    readonly code: keyof typeof status,
    message: string,
    readonly violations: Record<string, string> = {},
  ) {
    super(message);
  }
}

/** A method with what answers it. */
export type Handler = readonly [DescMethodUnary, handleUnaryCall<Uint8Array, Uint8Array>];

/** Joins a method and what answers it. */
export function handler<M extends DescMethodUnary>(
  method: M,
  answer: (request: MessageShape<M["input"]>) => MessageShape<M["output"]> | Promise<MessageShape<M["output"]>>,
): Handler {
  async function answered(content: Uint8Array): Promise<Uint8Array> {
    const request = fromBinary(method.input, content) as MessageShape<M["input"]>;
    const violations = violationsOf(method.input, request);
    const [first] = Object.entries(violations);
    if (first) throw new Refusal("INVALID_ARGUMENT", first.join(" "), violations);
    return toBinary(method.output, await answer(request));
  }
  return [
    method,
    (call: ServerUnaryCall<Uint8Array, Uint8Array>, done: sendUnaryData<Uint8Array>) => {
      answered(call.request).then((content) => done(null, content), (error: unknown) => done(statusOf(error)));
    },
  ];
}

/** Listens, and answers the methods and gRPC's health check; resolves to the port. */
export async function serve(address: string, service: DescService, handlers: readonly Handler[]): Promise<number> {
  const server = new Server({ "grpc.max_receive_message_length": 16 * 1024 * 1024 });
  const bound = handlers.map(([method, answer]) => [method.name, definition(`/${service.typeName}/${method.name}`), answer] as const);
  server.addService(
    Object.fromEntries(bound.map(([name, of]) => [name, of])),
    Object.fromEntries(bound.map(([name, , answer]) => [name, answer])),
  );
  const healthy: handleUnaryCall<Uint8Array, Uint8Array> = (_, done) => done(null, SERVING);
  server.addService({ Check: definition("/grpc.health.v1.Health/Check") }, { Check: healthy });
  return new Promise((resolve, reject) => {
    server.bindAsync(address, ServerCredentials.createInsecure(), (error, port) => (error ? reject(error) : resolve(port)));
  });
}

function definition(path: string): MethodDefinition<Uint8Array, Uint8Array> {
  const [asIs, read] = [(content: Uint8Array) => Buffer.from(content), (content: Buffer) => content];
  return {
    path,
    requestStream: false,
    responseStream: false,
    requestSerialize: asIs,
    requestDeserialize: read,
    responseSerialize: asIs,
    responseDeserialize: read,
  };
}

function statusOf(error: unknown): { code: status; details: string; metadata: Metadata } {
  if (!(error instanceof Refusal)) console.error(error);
  const known = error instanceof Refusal ? error : new Refusal("INTERNAL", "internal error; the log has the details");
  const fieldViolations = Object.entries(known.violations).map(([field, description]) => ({ field, description }));
  const details = [anyPack(ErrorInfoSchema, create(ErrorInfoSchema, { reason: known.code, domain: "forebay" }))];
  if (fieldViolations.length) details.push(anyPack(BadRequestSchema, create(BadRequestSchema, { fieldViolations })));
  const metadata = new Metadata();
  const packed = create(StatusSchema, { code: status[known.code], message: known.message, details });
  metadata.set("grpc-status-details-bin", Buffer.from(toBinary(StatusSchema, packed)));
  return { code: status[known.code], details: known.message, metadata };
}
