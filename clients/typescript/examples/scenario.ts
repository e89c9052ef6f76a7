/** The scenario that every client of Forebay runs against a live stack: one JSON object a step, exit status 0. */

import { parseArgs } from "node:util";

import { Client, DeferredClient, ForebayError, InstanceState, JobStatus, newRequest, Outcome, Verdict } from "../src/index.js";

const { values: where } = parseArgs({
  options: {
    scheduler: { type: "string", default: "127.0.0.1:7101" },
    predictor: { type: "string", default: "127.0.0.1:7102" },
    autoscaler: { type: "string", default: "127.0.0.1:7103" },
    gateway: { type: "string", default: "127.0.0.1:7081" },
    model: { type: "string", default: "llama-8b" },
  },
});

function tell(step: string, values: object = {}): void {
  console.log(JSON.stringify({ step, ...values }));
}

async function placeAndReport(client: Client): Promise<void> {
  const request = newRequest(where.model, "Write a haiku.", 6, { tokensMax: 64 });
  const [prediction] = await client.predict([request]);
  const quantiles = prediction?.quantiles;
  tell("predict", {
    p10: quantiles?.p10Tokens,
    p50: quantiles?.p50Tokens,
    p90: quantiles?.p90Tokens,
    p97: quantiles?.p97Tokens,
  });

  const placement = await client.place(request);
  const again = await client.place(request);
  const { instanceId, leaseId, decisionId } = placement;
  tell("place", { instance_id: instanceId, lease_id: leaseId, same_lease: again.leaseId === leaseId });

  await client.progress(leaseId, 10);
  tell("progress");
  await client.finish(leaseId, Outcome.STOPPED, 17);
  tell("finish");

  const decision = await client.explain(decisionId);
  tell("explain", {
    verdict: Verdict[decision.verdict],
    instance_id: decision.instanceId,
    candidate_count: decision.candidates.length,
  });
}

async function refuse(client: Client): Promise<void> {
  try {
    await client.place(newRequest("", "Write a haiku.", 6));
  } catch (error) {
    if (!(error instanceof ForebayError)) throw error;
    tell("refuse", { code: error.code, reason: error.reason, violations: error.violations });
    return;
  }
  throw new Error("a request without a model was placed");
}

async function watchFleet(client: Client): Promise<void> {
  for await (const instances of client.watchFleet()) {
    const ready = instances.filter((one) => one.state === InstanceState.READY);
    tell("watch_fleet", { ready_count: ready.length });
    return;
  }
}

async function defer(client: DeferredClient): Promise<void> {
  const body = { model: where.model, messages: [{ role: "user", content: "Write a haiku." }], max_tokens: 8 };
  let job = await client.submit({ a: body, b: body });
  for await (job of client.watch(job.jobId));
  const results: string[] = [];
  for await (const result of client.results(job.jobId)) {
    if (result.statusCode !== 200) throw new Error(`${result.customId} was answered with ${result.statusCode}`);
    results.push(result.customId);
  }
  tell("deferred", { status: JobStatus[job.status], results: results.sort() });
}

const client = new Client(where);
const deferred = new DeferredClient(where.gateway);
try {
  await placeAndReport(client);
  await refuse(client);
  await watchFleet(client);
  await defer(deferred);
} catch (error) {
  console.error(error instanceof ForebayError ? `${error.reason || error.code}: ${error.message}` : error);
  process.exitCode = 1;
} finally {
  client.close();
  deferred.close();
}
