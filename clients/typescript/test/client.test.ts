/** The client against servers in process: verbs, errors, retries, deadlines, signals, TLS. */

import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { mkdtempSync, readFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";

import { ServerCredentials, status, type UntypedServiceImplementation } from "@grpc/grpc-js";

import { AutoscalerService } from "../src/gen/lmaas/autoscaler/v1/autoscaler_service_pb.js";
import { PredictorService } from "../src/gen/lmaas/predictor/v1/predictor_service_pb.js";
import { SchedulerService } from "../src/gen/lmaas/scheduler/v1/scheduler_service_pb.js";
import { Client, type ConnectOptions, ForebayError, newRequest, Outcome } from "../src/index.js";
import { failure, serve } from "./fakes.js";

const reports: string[] = [];
let watcherCount = 0;
let slowCallEnded: () => void;
const slowCall = new Promise<void>((resolve) => (slowCallEnded = resolve));
let refusals = 0;

const scheduler: UntypedServiceImplementation = {
  place(call: any, done: any) {
    const { model, requestId } = call.request.request;
    if (model === "full") {
      done(failure(status.RESOURCE_EXHAUSTED, "all instances are full", { reason: "NO_ROOM", retryAfterMs: 2_500 }));
    } else if (model === "") {
      const violations = { "request.model": "must not be empty" };
      done(failure(status.INVALID_ARGUMENT, "request.model: must not be empty", { reason: "INVALID_ARGUMENT", violations }));
    } else if (model === "away" && refusals++ < 2) {
      done({ code: status.UNAVAILABLE, details: "restarting" });
    } else if (model === "broken") {
      done({ code: status.INTERNAL, details: "" });
    } else {
      done(null, { placement: { leaseId: `l-${requestId}`, decisionId: "d-1", instanceId: "a/llama" } });
    }
  },
  report(call: any, done: any) {
    reports.push(call.request.event.case);
    done(null, {});
  },
  explain(call: any, done: any) {
    if (call.request.decisionId !== "slow") done(null, { decision: { decisionId: "d-1", reason: "only one" } });
    else call.on("cancelled", () => slowCallEnded());
  },
  listInstances(call: any, done: any) {
    const first = call.request.pageToken === "";
    const name = first ? "a/llama" : "b/llama";
    done(null, { instances: [{ instance: { instanceId: name } }], nextPageToken: first ? "more" : "" });
  },
};
const predictor: UntypedServiceImplementation = {
  predictLength(call: any, done: any) {
    const answers = call.request.queries.map((query: any) => ({
      queryId: query.queryId,
      quantiles: { p50Tokens: 2 * query.promptTokens },
    }));
    done(null, { predictions: answers });
  },
};
const autoscaler: UntypedServiceImplementation = {
  getFleet(_call: any, done: any) {
    done(null, { policy: "hpa_ratio", instances: [{ instanceId: "a/llama" }] });
  },
  watchFleet(call: any) {
    watcherCount += 1;
    call.on("cancelled", () => (watcherCount -= 1));
    call.write({ instances: [{ instanceId: "a/llama" }] });
    if (call.request.model === "ending") call.end();
    if (call.request.model === "breaking") call.emit("error", failure(status.NOT_FOUND, "gone", { reason: "NOT_FOUND" }));
    if (call.request.model === "two") call.write({ instances: [] });
  },
};

const closing: { close: () => void }[] = [];
let server: { address: string; close: () => void };

function connect(options: ConnectOptions = {}, address = server.address): Client {
  const client = new Client({ scheduler: address, predictor: address, autoscaler: address }, options);
  closing.push(client);
  return client;
}

async function failed(call: Promise<unknown>): Promise<ForebayError> {
  const error = await call.then(() => undefined, (caught: unknown) => caught);
  assert.ok(error instanceof ForebayError, `not a ForebayError: ${error}`);
  return error;
}

before(async () => {
  server = await serve([
    [SchedulerService, scheduler],
    [PredictorService, predictor],
    [AutoscalerService, autoscaler],
  ]);
  closing.push(server);
});
after(() => closing.forEach((one) => one.close()));

test("it predicts, places, reports and explains", async () => {
  const client = connect();
  const request = newRequest("llama", "hello", 7);
  const [prediction] = await client.predict([request]);
  assert.equal(prediction?.quantiles?.p50Tokens, 14);
  const placement = await client.place(request);
  assert.equal(placement.leaseId, `l-${request.requestId}`);
  await client.progress(placement.leaseId, 3);
  await client.finish(placement.leaseId, Outcome.STOPPED, 9, { promptTokens: 7 });
  await client.cancel(request.requestId);
  assert.equal((await client.explain("d-1")).reason, "only one");
  assert.deepEqual(reports, ["progress", "finish", "cancel"]);
});

test("instances joins all pages, and the fleet tells its policy", async () => {
  const client = connect();
  const found = await client.instances();
  assert.deepEqual(found.map((one) => one.instance?.instanceId), ["a/llama", "b/llama"]);
  assert.equal((await client.fleet()).policy, "hpa_ratio");
});

test("a watch ends with the server's stream", async () => {
  const client = connect();
  const seen = [];
  for await (const instances of client.watchFleet("ending")) seen.push(instances.length);
  assert.deepEqual(seen, [1]);
});

test("leaving a watch ends the call at the server", async () => {
  const client = connect();
  const before = watcherCount;
  for await (const instances of client.watchFleet("two")) {
    assert.equal(instances.length, 1);
    break;
  }
  while (watcherCount > before) await new Promise((resolve) => setTimeout(resolve, 5));
});

test("a watch that breaks throws the reason", async () => {
  const client = connect();
  const watch = client.watchFleet("breaking");
  const error = await failed((async () => { for await (const _ of watch); })());
  assert.deepEqual([error.code, error.reason], ["NOT_FOUND", "NOT_FOUND"]);
});

test("a signal ends a watch and a call, with its own reason", async () => {
  const client = connect();
  const stop = new AbortController();
  const watch = client.watchFleet("", { signal: stop.signal });
  await watch.next();
  stop.abort(new Error("enough"));
  await assert.rejects(watch.next(), /enough/);
  await assert.rejects(client.explain("slow", { signal: AbortSignal.timeout(20) }), { name: "TimeoutError" });
  await slowCall;
  await assert.rejects(client.explain("d-1", { signal: stop.signal }), /enough/);
});

test("a call ends at its deadline", async () => {
  const client = connect({ timeoutMs: 50 });
  assert.equal((await failed(client.explain("slow"))).code, "DEADLINE_EXCEEDED");
});

test("an error carries its reason and the time to come back", async () => {
  const client = connect();
  const error = await failed(client.place(newRequest("full", "hello", 7)));
  assert.deepEqual([error.code, error.reason, error.retryAfterMs], ["RESOURCE_EXHAUSTED", "NO_ROOM", 2_500]);
  assert.equal(error.message, "all instances are full");
  assert.deepEqual(error.violations, {});
});

test("a broken rule names its field", async () => {
  const client = connect();
  const error = await failed(client.place(newRequest("", "hello", 7)));
  assert.deepEqual(error.violations, { "request.model": "must not be empty" });
  assert.equal(error.retryAfterMs, undefined);
});

test("an error without details or text is named by its code", async () => {
  const client = connect();
  const error = await failed(client.place(newRequest("broken", "hello", 7)));
  assert.deepEqual([error.message, error.code, error.reason], ["INTERNAL", "INTERNAL", ""]);
});

test("a call is tried again while the server is away, three times in all", async () => {
  const client = connect();
  assert.equal((await client.place(newRequest("away", "hello", 7))).instanceId, "a/llama");
  assert.equal(refusals, 3);
  refusals = -10;
  assert.equal((await failed(client.place(newRequest("away", "hello", 7)))).code, "UNAVAILABLE");
  assert.equal(refusals, -7);
});

test("a value that does not fit is thrown before the call", async () => {
  const client = connect();
  await assert.rejects(client.place(newRequest("llama", "hello", -1)), /prompt_tokens.*invalid uint32: -1/);
});

test("nobody there is UNAVAILABLE", async () => {
  const client = connect({}, "127.0.0.1:1");
  assert.equal((await failed(client.fleet())).code, "UNAVAILABLE");
});

test("TLS with roots of one's own, and none without them", async (t) => {
  const folder = mkdtempSync(join(tmpdir(), "forebay-tls-"));
  const [key, certificate] = [join(folder, "key.pem"), join(folder, "cert.pem")];
  try {
    execFileSync("openssl", [
      ..."req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN=localhost".split(" "),
      ...["-addext", "subjectAltName=DNS:localhost", "-keyout", key, "-out", certificate],
    ], { stdio: "ignore" });
  } catch {
    t.skip("openssl is missing; run: sudo apt-get install openssl");
    return;
  }
  const pair = { private_key: readFileSync(key), cert_chain: readFileSync(certificate) };
  const secure = await serve([[SchedulerService, scheduler]], ServerCredentials.createSsl(null, [pair]));
  closing.push(secure);
  const name = secure.address.replace("127.0.0.1", "localhost");
  const trusting = connect({ tls: { rootCertificates: pair.cert_chain } }, name);
  assert.equal((await trusting.explain("d-1")).reason, "only one");
  const doubting = connect({ tls: true }, name);
  assert.equal((await failed(doubting.explain("d-1"))).code, "UNAVAILABLE");
});
