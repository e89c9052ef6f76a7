/** Servers in process that answer as the contract says, to test the client against. */

import { create, type DescMessage, type DescService, fromBinary, type MessageInitShape, type MessageShape, toBinary } from "@bufbuild/protobuf";
import { anyPack } from "@bufbuild/protobuf/wkt";
import { Metadata, Server, ServerCredentials, type ServiceDefinition, type UntypedServiceImplementation } from "@grpc/grpc-js";

import { BadRequestSchema, ErrorInfoSchema, RetryInfoSchema } from "../src/gen/google/rpc/error_details_pb.js";
import { StatusSchema } from "../src/gen/google/rpc/status_pb.js";

/** The definition that grpc-js serves, from a service of the contract. */
export function definitionOf(service: DescService): ServiceDefinition {
  const methods = service.methods.map((method) => [
    method.localName,
    {
      path: `/${service.typeName}/${method.name}`,
      requestStream: method.methodKind === "client_streaming" || method.methodKind === "bidi_streaming",
      responseStream: method.methodKind === "server_streaming" || method.methodKind === "bidi_streaming",
      requestSerialize: serialize(method.input),
      requestDeserialize: (bytes: Buffer) => fromBinary(method.input, bytes),
      responseSerialize: serialize(method.output),
      responseDeserialize: (bytes: Buffer) => fromBinary(method.output, bytes),
    },
  ]);
  return Object.fromEntries(methods) as ServiceDefinition;
}

function serialize<D extends DescMessage>(schema: D): (value: MessageInitShape<D>) => Buffer {
  return (value) => Buffer.from(toBinary(schema, create(schema, value) as MessageShape<D>));
}

/** What a server answers in place of a message: a status with the details of google.rpc. */
export function failure(
  code: number,
  message: string,
  details: { reason?: string; retryAfterMs?: number; violations?: Record<string, string> } = {},
): { code: number; details: string; metadata: Metadata } {
  const packed = [anyPack(ErrorInfoSchema, create(ErrorInfoSchema, { reason: details.reason ?? "", domain: "forebay" }))];
  if (details.retryAfterMs !== undefined) {
    const seconds = Math.floor(details.retryAfterMs / 1_000);
    const retryDelay = { seconds: BigInt(seconds), nanos: (details.retryAfterMs - seconds * 1_000) * 1e6 };
    packed.push(anyPack(RetryInfoSchema, create(RetryInfoSchema, { retryDelay })));
  }
  if (details.violations) {
    const fieldViolations = Object.entries(details.violations).map(([field, description]) => ({ field, description }));
    packed.push(anyPack(BadRequestSchema, create(BadRequestSchema, { fieldViolations })));
  }
  const metadata = new Metadata();
  const status = create(StatusSchema, { code, message, details: packed });
  metadata.set("grpc-status-details-bin", Buffer.from(toBinary(StatusSchema, status)));
  return { code, details: message, metadata };
}

/** Serves on a free port of this machine; `close` ends it with all that runs on it. */
export async function serve(
  services: [DescService, UntypedServiceImplementation][],
  credentials: ServerCredentials = ServerCredentials.createInsecure(),
): Promise<{ address: string; close: () => void }> {
  const server = new Server();
  for (const [service, implementation] of services) server.addService(definitionOf(service), implementation);
  const port = await new Promise<number>((resolve, reject) => {
    server.bindAsync("127.0.0.1:0", credentials, (error, bound) => (error ? reject(error) : resolve(bound)));
  });
  return { address: `127.0.0.1:${port}`, close: () => server.forceShutdown() };
}
