/** How many requests a second this client places and finishes: callers in a loop on one connection, one JSON line. */

import { parseArgs } from "node:util";

import { Client, newRequest, Outcome } from "../src/index.js";

const { values: given } = parseArgs({
  options: {
    scheduler: { type: "string", default: "127.0.0.1:7101" },
    model: { type: "string", default: "llama-8b" },
    "in-flight": { type: "string", default: "8" },
    seconds: { type: "string", default: "5" },
  },
});
const WARM_UP_S = 1;

const client = new Client(given);
let latencies: number[] = [];
let failedCount = 0;

async function caller(untilMs: number): Promise<void> {
  while (performance.now() < untilMs) {
    try {
      const request = newRequest(given.model, "Write a haiku.", 6, { tokensMax: 16 });
      const startMs = performance.now();
      const { leaseId } = await client.place(request);
      const placedMs = performance.now() - startMs;
      await client.finish(leaseId, Outcome.STOPPED, 4);
      latencies.push(placedMs * 1_000);
    } catch {
      failedCount += 1;
    }
  }
}

async function callers(count: number, seconds: number): Promise<number> {
  latencies = [];
  failedCount = 0;
  const startMs = performance.now();
  await Promise.all(Array.from({ length: count }, () => caller(startMs + seconds * 1_000)));
  return (performance.now() - startMs) / 1_000;
}

const inFlight = Number(given["in-flight"]);
await callers(inFlight, WARM_UP_S);
const seconds = await callers(inFlight, Number(given.seconds));
client.close();
const sorted = latencies.sort((one, other) => one - other);
console.log(
  JSON.stringify({
    language: "typescript",
    in_flight: inFlight,
    seconds,
    decision_count: sorted.length,
    decisions_per_s: sorted.length / seconds,
    p50_us: sorted[Math.floor(sorted.length * 0.5)] ?? 0,
    p99_us: sorted[Math.floor(sorted.length * 0.99)] ?? 0,
    failed_count: failedCount,
  }),
);
