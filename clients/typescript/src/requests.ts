/** Addresses, and the messages that callers make. */

import { createHash, randomUUID } from "node:crypto";

import { create } from "@bufbuild/protobuf";

import { SloClass } from "./gen/lmaas/common/v1/slo_pb.js";
import { type LengthQuery, LengthQuerySchema } from "./gen/lmaas/predictor/v1/length_pb.js";
import { type InferenceRequest, InferenceRequestSchema } from "./gen/lmaas/scheduler/v1/request_pb.js";

const PROMPT_BYTES_MAX = 8_192;

/** Where the services listen, host:port each; the defaults are those of `forebay up`. */
export interface Addresses {
  scheduler?: string;
  predictor?: string;
  autoscaler?: string;
}

/** What a request may say beside its model and prompt. */
export interface RequestOptions {
  /** Most tokens to generate. Default: as many as the model's context allows. */
  tokensMax?: number;
  /** The promise made to the request. Default: interactive, normal. */
  sloClass?: SloClass;
  tenant?: string;
  /** What the caller is doing, such as "translation"; helps prediction. */
  application?: string;
  /** Default: a fresh one. The same id again gives the same placement. */
  requestId?: string;
  /** Which question of its conversation this is, from 1. Default: not known. */
  turnNumber?: number;
  /** Of the system prompt a digest is sent. */
  systemPrompt?: string;
}

/**
 * A request to place, with a fresh id unless one is given.
 *
 * Only the first 8,192 bytes of the prompt are sent, cut at a whole character. All fields of the message can be set on
 * what comes back.
 */
export function newRequest(
  model: string,
  prompt: string,
  promptTokens: number,
  options: RequestOptions = {},
): InferenceRequest {
  return create(InferenceRequestSchema, {
    requestId: options.requestId || randomUUID().replaceAll("-", ""),
    model,
    promptTokens,
    tokensMax: options.tokensMax ?? 0,
    sloClass: options.sloClass ?? SloClass.INTERACTIVE_NORMAL,
    tenant: options.tenant ?? "",
    application: options.application ?? "",
    promptHead: headOf(prompt),
    turnNumber: options.turnNumber ?? 0,
    systemDigest: options.systemPrompt ? digestOf(options.systemPrompt) : "",
  });
}

/** The question for the predictor that a request stands for. */
export function lengthQuery(request: InferenceRequest): LengthQuery {
  return create(LengthQuerySchema, {
    queryId: request.requestId,
    model: request.model,
    promptTokens: request.promptTokens,
    tokensMax: request.tokensMax,
    promptHead: request.promptHead,
    application: request.application,
    tenant: request.tenant,
    temperature: request.temperature,
    turnNumber: request.turnNumber,
    systemDigest: request.systemDigest,
    traceparent: request.traceparent,
  });
}

function headOf(prompt: string): string {
  const head = Buffer.alloc(PROMPT_BYTES_MAX);
  const { read } = new TextEncoder().encodeInto(prompt, head);
  return prompt.slice(0, read);
}

function digestOf(text: string): string {
  return createHash("sha256").update(text).digest("hex").slice(0, 16);
}
