/** Turns a failed call into one error with the reason, the broken fields and the time to come back. */

import { fromBinary } from "@bufbuild/protobuf";
import { durationMs } from "@bufbuild/protobuf/wkt";
import { type ServiceError, status } from "@grpc/grpc-js";

import { BadRequestSchema, ErrorInfoSchema, RetryInfoSchema } from "./gen/google/rpc/error_details_pb.js";
import { StatusSchema } from "./gen/google/rpc/status_pb.js";

const DETAILS_KEY = "grpc-status-details-bin";

/** Name of a gRPC status, such as "NOT_FOUND". */
export type Code = keyof typeof status;

/** A call that failed. */
export class ForebayError extends Error {
  override readonly name = "ForebayError";
  /** The gRPC status. */
  readonly code: Code;
  /** Stable and UPPER_SNAKE_CASE; empty where the server gave none. */
  readonly reason: string;
  /** Milliseconds to wait before trying again; undefined where waiting does not help. */
  readonly retryAfterMs: number | undefined;
  /** What is wrong, by field. */
  readonly violations: Readonly<Record<string, string>>;

  constructor(
    message: string,
    code: Code,
    details: { reason?: string; retryAfterMs?: number; violations?: Record<string, string>; cause?: unknown } = {},
  ) {
    super(message, { cause: details.cause });
    this.code = code;
    this.reason = details.reason ?? "";
    this.retryAfterMs = details.retryAfterMs;
    this.violations = details.violations ?? {};
  }
}

/** The error for a failed call of gRPC; anything else is a bug and comes back as it is. */
export function fromCall(error: unknown): unknown {
  if (!isServiceError(error)) return error;
  const code = (status[error.code] ?? "UNKNOWN") as Code;
  return new ForebayError(error.details || code, code, { ...detailsOf(error), cause: error });
}

function isServiceError(error: unknown): error is ServiceError {
  return error instanceof Error && "code" in error && typeof error.code === "number" && "metadata" in error;
}

interface Details {
  reason?: string;
  retryAfterMs?: number;
  violations?: Record<string, string>;
}

function detailsOf(error: ServiceError): Details {
  const [packed] = error.metadata.get(DETAILS_KEY);
  const found: Details = {};
  if (!(packed instanceof Uint8Array)) return found;
  for (const { typeUrl, value } of fromBinary(StatusSchema, packed).details) {
    switch (typeUrl.slice(typeUrl.lastIndexOf("/") + 1)) {
      case ErrorInfoSchema.typeName:
        found.reason = fromBinary(ErrorInfoSchema, value).reason;
        break;
      case RetryInfoSchema.typeName: {
        const delay = fromBinary(RetryInfoSchema, value).retryDelay;
        if (delay) found.retryAfterMs = durationMs(delay);
        break;
      }
      case BadRequestSchema.typeName: {
        const broken = fromBinary(BadRequestSchema, value).fieldViolations;
        found.violations = Object.fromEntries(broken.map((one) => [one.field, one.description]));
        break;
      }
    }
  }
  return found;
}
