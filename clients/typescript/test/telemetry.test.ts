/** Spans around calls, and the context that is sent along. */

import assert from "node:assert/strict";
import { test } from "node:test";

import { status } from "@grpc/grpc-js";
import { context, propagation, trace } from "@opentelemetry/api";
import { AsyncLocalStorageContextManager } from "@opentelemetry/context-async-hooks";
import { W3CTraceContextPropagator } from "@opentelemetry/core";
import { BasicTracerProvider, InMemorySpanExporter, SimpleSpanProcessor } from "@opentelemetry/sdk-trace-base";

import { SchedulerService } from "../src/gen/lmaas/scheduler/v1/scheduler_service_pb.js";
import { Client } from "../src/index.js";
import { traced } from "../src/telemetry.js";
import { failure, serve } from "./fakes.js";

test("a call is a span of the caller's trace, and the server is told which", async (t) => {
  const exporter = new InMemorySpanExporter();
  const provider = new BasicTracerProvider({ spanProcessors: [new SimpleSpanProcessor(exporter)] });
  context.setGlobalContextManager(new AsyncLocalStorageContextManager().enable());
  propagation.setGlobalPropagator(new W3CTraceContextPropagator());
  trace.setGlobalTracerProvider(provider);
  const heard: string[] = [];
  const server = await serve([
    [SchedulerService, {
      explain(call: any, done: any) {
        heard.push(String(call.metadata.get("traceparent")[0]));
        if (call.request.decisionId === "d-1") done(null, { decision: {} });
        else done(failure(status.NOT_FOUND, "unknown", { reason: "NOT_FOUND" }));
      },
    }],
  ]);
  const client = new Client({ scheduler: server.address }, { interceptors: [traced()] });
  t.after(() => [client, server].forEach((one) => one.close()));

  await trace.getTracer("test").startActiveSpan("outer", async (outer) => {
    await client.explain("d-1");
    await assert.rejects(client.explain("d-2"));
    outer.end();
  });

  const [good, bad, outer] = exporter.getFinishedSpans();
  assert.equal(good?.name, "lmaas.scheduler.v1.SchedulerService/Explain");
  assert.equal(good.attributes["rpc.grpc.status_code"], status.OK);
  assert.equal(bad?.attributes["rpc.grpc.status_code"], status.NOT_FOUND);
  assert.equal(bad?.status.message, "unknown");
  assert.equal(good.parentSpanContext?.spanId, outer?.spanContext().spanId);
  const { traceId, spanId } = good.spanContext();
  assert.equal(heard[0], `00-${traceId}-${spanId}-01`);
});
