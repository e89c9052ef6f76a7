/**
 * TypeScript client of Forebay for Node: predict, place, report, explain, watch, and deferred work.
 *
 * `ForebayError` is the one error; its `reason` is stable and its `retryAfterMs` says when to come back. All messages of
 * the contract are under `forebay-client/lmaas/…`.
 */

export type { CallOptions, ConnectOptions, TlsOptions } from "./channel.js";
export { Channel } from "./channel.js";
export { Client } from "./client.js";
export type { DeferredOptions, SubmitOptions } from "./deferred.js";
export { DeferredClient } from "./deferred.js";
export type { Code } from "./errors.js";
export { ForebayError } from "./errors.js";
export type { GetFleetResponse } from "./gen/lmaas/autoscaler/v1/autoscaler_service_pb.js";
export type { Instance } from "./gen/lmaas/common/v1/instance_pb.js";
export { InstanceState } from "./gen/lmaas/common/v1/instance_pb.js";
export type { LengthQuantiles } from "./gen/lmaas/common/v1/length_pb.js";
export { SloClass } from "./gen/lmaas/common/v1/slo_pb.js";
export type { Job, Result } from "./gen/lmaas/deferred/v1/job_pb.js";
export { JobStatus, ResultState } from "./gen/lmaas/deferred/v1/job_pb.js";
export type { LengthPrediction } from "./gen/lmaas/predictor/v1/length_pb.js";
export type { Decision } from "./gen/lmaas/scheduler/v1/decision_pb.js";
export { Verdict } from "./gen/lmaas/scheduler/v1/decision_pb.js";
export type { InferenceRequest, Placement } from "./gen/lmaas/scheduler/v1/request_pb.js";
export { Outcome } from "./gen/lmaas/scheduler/v1/request_pb.js";
export type { ScheduledInstance } from "./gen/lmaas/scheduler/v1/status_pb.js";
export type { Addresses, RequestOptions } from "./requests.js";
export { newRequest } from "./requests.js";
export { SERVICE_CONFIG } from "./service_config.js";
