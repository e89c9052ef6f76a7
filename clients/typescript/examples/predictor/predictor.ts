/**
 * A predictor that takes the place of Forebay's own: node predictor.js LISTEN METRICS, both host:port.
 *
 * Lengths are the quantiles of the newest answers of the same model, or of all where it is new; traffic is that of the
 * newest windows. It shows what a predictor has to answer, not how to predict well.
 */

import { create } from "@bufbuild/protobuf";
import { durationFromMs, durationMs, timestampFromMs } from "@bufbuild/protobuf/wkt";

import { Channel } from "../../src/channel.js";
import { MetricsService } from "../../src/gen/lmaas/metrics/v1/metrics_service_pb.js";
import {
  type LengthOutcome,
  type LengthPrediction,
  LengthPredictionSchema,
  type LengthQuery,
  ModelKind,
  type PredictorModel,
  PredictorModelSchema,
} from "../../src/gen/lmaas/predictor/v1/length_pb.js";
import * as api from "../../src/gen/lmaas/predictor/v1/predictor_service_pb.js";
import { QuantilesSchema, WorkloadForecastSchema } from "../../src/gen/lmaas/predictor/v1/workload_pb.js";
import { handler, Refusal, serve } from "./server.js";

const NAME = "newest_lengths";
const PREDICTED_BY = `${NAME}@1`;
const LENGTHS_KEPT = 500;
const REQUESTS_KEPT = 10_000;
const HISTORY_COUNT = 60;
/** What is expected before anything was seen. Tokens. */
const FIRST_LENGTHS = [20, 60, 120, 250, 400, 600, 1_000];
const DEFAULT_PAGE_SIZE = 50;

const ALL = "";
const lengths = new Map<string, number[]>();
const seen = new Set<string>();
const method = api.PredictorService.method;
const [listen = "127.0.0.1:7102", metricsAddress = "127.0.0.1:7104"] = process.argv.slice(2);
const metrics = new Channel(metricsAddress, { timeoutMs: 2_000 });

function quantile(sorted: readonly number[], share: number): number {
  return sorted[Math.min(sorted.length - 1, Math.floor(share * sorted.length))] ?? 0;
}

function predicted(query: LengthQuery): LengthPrediction {
  const limit = query.tokensMax || Infinity;
  const known = lengths.get(query.model) ?? lengths.get(ALL) ?? FIRST_LENGTHS;
  const sorted = known.map((one) => Math.min(one, limit)).sort((a, b) => a - b);
  const mean = sorted.reduce((sum, one) => sum + one, 0) / sorted.length;
  return create(LengthPredictionSchema, {
    queryId: query.queryId,
    quantiles: {
      p10Tokens: quantile(sorted, 0.1),
      p50Tokens: quantile(sorted, 0.5),
      p90Tokens: quantile(sorted, 0.9),
      p97Tokens: quantile(sorted, 0.97),
    },
    meanTokens: mean,
    rankScore: mean,
  });
}

function learn(outcome: LengthOutcome): void {
  for (const model of [outcome.query?.model ?? ALL, ALL]) {
    lengths.set(model, [...(lengths.get(model) ?? []), Math.max(1, outcome.generatedTokens)].slice(-LENGTHS_KEPT));
  }
}

async function forecast(request: api.ForecastWorkloadRequest): Promise<api.ForecastWorkloadResponse> {
  const windowMs = request.window ? durationMs(request.window) : 60_000;
  const endMs = Math.floor(Date.now() / windowMs) * windowMs;
  const { model, region, sloClass } = request;
  const [window, startTime, endTime] = [durationFromMs(windowMs), timestampFromMs(endMs - HISTORY_COUNT * windowMs), timestampFromMs(endMs)];
  const query = { model, region, sloClass, window, startTime, endTime };
  const { points } = await metrics.unary(MetricsService.method.queryWorkloadHistory, query).catch((error: unknown) => {
    throw new Refusal("UNAVAILABLE", `metrics on ${metricsAddress} does not answer: ${String(error)}`);
  });
  const quantiles = (values: bigint[]) => {
    const sorted = values.map(Number).sort((a, b) => a - b);
    const [p10, p50, p90, p97] = [0.1, 0.5, 0.9, 0.97].map((share) => quantile(sorted, share));
    return create(QuantilesSchema, { p10: p10 ?? 0, p50: p50 ?? 0, p90: p90 ?? 0, p97: p97 ?? 0 });
  };
  const one = {
    requests: quantiles(points.map((point) => point.requestCount)),
    promptTokens: quantiles(points.map((point) => point.promptTokens)),
    responseTokens: quantiles(points.map((point) => point.responseTokens)),
  };
  const starts = Array.from({ length: request.horizonCount }, (_, number) => endMs + (number + 1) * windowMs);
  const forecasts = starts.map((ms) => create(WorkloadForecastSchema, { ...one, startTime: timestampFromMs(ms) }));
  return create(api.ForecastWorkloadResponseSchema, { forecasts, predictedBy: PREDICTED_BY, historyCount: points.length });
}

function models(): PredictorModel[] {
  const kinds = [ModelKind.LENGTH, ModelKind.WORKLOAD];
  return kinds.map((kind) => create(PredictorModelSchema, { name: NAME, version: "1", kind, active: true }));
}

function listed(request: api.ListModelsRequest): api.ListModelsResponse {
  const all = models().filter((one) => !request.kind || one.kind === request.kind);
  const start = Number(request.pageToken || 0);
  const end = start + (request.pageSize || DEFAULT_PAGE_SIZE);
  const nextPageToken = end < all.length ? String(end) : "";
  return create(api.ListModelsResponseSchema, { models: all.slice(start, end), nextPageToken });
}

/** The one model there is, or NOT_FOUND. */
function named(name: string, kind: ModelKind): PredictorModel {
  const found = models().find((one) => one.name === name && one.kind === kind);
  if (!found) throw new Refusal("NOT_FOUND", `no model ${name}; there is ${NAME}`);
  return found;
}

function observe(request: api.ObserveOutcomesRequest): api.ObserveOutcomesResponse {
  if (!seen.has(request.requestId)) request.outcomes.forEach(learn);
  seen.add(request.requestId);
  const [oldest] = seen;
  if (seen.size > REQUESTS_KEPT && oldest !== undefined) seen.delete(oldest);
  return create(api.ObserveOutcomesResponseSchema);
}

const port = await serve(listen, api.PredictorService, [
  handler(method.predictLength, (request) =>
    create(api.PredictLengthResponseSchema, { predictions: request.queries.map(predicted), predictedBy: PREDICTED_BY }),
  ),
  handler(method.forecastWorkload, forecast),
  handler(method.observeOutcomes, observe),
  handler(method.listModels, listed),
  handler(method.activateModel, ({ name, kind }) =>
    create(api.ActivateModelResponseSchema, { model: named(name, kind) }),
  ),
  handler(method.shadowModel, ({ name }) => {
    named(name, ModelKind.LENGTH);
    throw new Refusal("FAILED_PRECONDITION", `${name} is the active model`);
  }),
  handler(method.rollbackModel, () => {
    throw new Refusal("FAILED_PRECONDITION", "there was no change");
  }),
  handler(method.listAccuracy, () => create(api.ListAccuracyResponseSchema)),
]);
console.log(`predicting on port ${port}`);
