/** Jobs against a gateway in process. */

import assert from "node:assert/strict";
import { after, before, beforeEach, test } from "node:test";

import { status, type UntypedServiceImplementation } from "@grpc/grpc-js";

import { DeferredService } from "../src/gen/lmaas/deferred/v1/deferred_service_pb.js";
import { DeferredClient, type DeferredOptions, ForebayError, JobStatus } from "../src/index.js";
import { failure, serve } from "./fakes.js";

let parts: any[] = [];
let headers: Record<string, unknown> = {};

const gateway: UntypedServiceImplementation = {
  submitJob(call: any, done: any) {
    headers = call.metadata.getMap();
    call.on("data", (part: any) => parts.push(part));
    call.on("end", () => {
      const count = parts.reduce((sum: number, part: any) => sum + part.requests.length, 0);
      if (count === 0) done(failure(status.INVALID_ARGUMENT, "a job has requests", { reason: "INVALID_ARGUMENT" }));
      else done(null, { job: { jobId: "batch_1", totalCount: BigInt(count), metadata: parts[0].spec.metadata } });
    });
  },
  getJob: (call: any, done: any) => done(null, { job: { jobId: call.request.jobId, status: JobStatus.IN_PROGRESS } }),
  cancelJob: (call: any, done: any) => {
    assert.notEqual(call.request.requestId, "");
    done(null, { job: { jobId: call.request.jobId, status: JobStatus.CANCELLING } });
  },
  watchJob(call: any) {
    for (const one of [JobStatus.IN_PROGRESS, JobStatus.COMPLETED]) call.write({ job: { jobId: "batch_1", status: one } });
    call.end();
  },
  streamResults(call: any) {
    const first = Number(call.request.afterNumber) + 1;
    call.write({ results: [{ number: BigInt(first), customId: `r${first}`, statusCode: 200 }] });
    call.write({ results: [{ number: BigInt(first + 1), customId: `r${first + 1}`, statusCode: 200 }] });
    call.end();
  },
};

const closing: { close: () => void }[] = [];
let server: { address: string; close: () => void };
before(async () => {
  server = await serve([[DeferredService, gateway]]);
  closing.push(server);
});
after(() => closing.forEach((one) => one.close()));
beforeEach(() => {
  parts = [];
});

function connect(options: DeferredOptions = {}): DeferredClient {
  const client = new DeferredClient(server.address, options);
  closing.push(client);
  return client;
}

const BODY = { model: "llama", messages: [] };

test("a job is submitted, watched to its end and its results are read", async () => {
  const client = connect();
  const job = await client.submit({ a: BODY, b: BODY }, { windowS: 3_600, notes: { for: "tests" }, requestId: "tonight" });
  assert.deepEqual([job.jobId, job.totalCount, job.metadata], ["batch_1", 2n, { for: "tests" }]);
  assert.equal(parts[0].requestId, "tonight");
  assert.equal(parts[0].spec.completionWindow.seconds, 3_600n);
  assert.deepEqual(parts[0].requests.map((one: any) => [one.customId, JSON.parse(one.body)]), [["a", BODY], ["b", BODY]]);
  const states = [];
  for await (const one of client.watch("batch_1")) states.push(JobStatus[one.status]);
  assert.deepEqual(states, ["IN_PROGRESS", "COMPLETED"]);
  const names = [];
  for await (const one of client.results("batch_1", { afterNumber: 4n })) names.push(one.customId);
  assert.deepEqual(names, ["r5", "r6"]);
  assert.equal((await client.job("batch_1")).status, JobStatus.IN_PROGRESS);
  assert.equal((await client.cancel("batch_1")).status, JobStatus.CANCELLING);
});

test("many requests and large ones go in parts, the specification in the first alone", async () => {
  const client = connect();
  function* many(): Generator<[string, object]> {
    for (let number = 0; number < 1_001; number += 1) yield [`r${number}`, BODY];
    for (let number = 0; number < 3; number += 1) yield [`large${number}`, { prompt: "x".repeat(700_000) }];
  }
  assert.equal((await client.submit(many())).totalCount, 1_004n);
  assert.deepEqual(parts.map((part) => part.requests.length), [500, 500, 2, 1, 1]);
  assert.deepEqual(parts.map((part) => part.spec !== undefined), [true, false, false, false, false]);
});

test("the tenant is named by key or by name", async () => {
  const client = connect({ key: "secret", tenant: "mine" });
  await client.submit({ a: BODY });
  assert.equal(headers["authorization"], "Bearer secret");
  assert.equal(headers["x-forebay-tenant"], "mine");
});

test("an empty job fails with the server's reason, and a body that is no JSON with its own error", async () => {
  const client = connect();
  await assert.rejects(client.submit({}), (error) => error instanceof ForebayError && error.reason === "INVALID_ARGUMENT");
  const endless: Record<string, unknown> = {};
  endless["itself"] = endless;
  await assert.rejects(client.submit({ a: endless }), TypeError);
});
