/** Predicts, places and reports one request against a running stack (`forebay up`): node place.js MODEL PROMPT. */

import { Client, ForebayError, newRequest, Outcome } from "../src/index.js";

const [model, prompt] = process.argv.slice(2);
if (!model || !prompt) {
  console.error("usage: node place.js MODEL PROMPT");
  process.exit(2);
}
const client = new Client();
try {
  const request = newRequest(model, prompt, Math.max(1, Math.floor(prompt.length / 4)), { tokensMax: 256 });
  const [prediction] = await client.predict([request]);
  console.log(`predicted: ${prediction?.quantiles?.p50Tokens} tokens (90 %: ${prediction?.quantiles?.p90Tokens})`);
  const placement = await client.place(request);
  console.log(`placed on: ${placement.instanceId} at ${placement.grpcAddress}`);
  console.log(`because:   ${(await client.explain(placement.decisionId)).reason}`);
  // Here the request goes to the instance; its answer then ends the lease.
  await client.finish(placement.leaseId, Outcome.STOPPED, 42);
} catch (error) {
  if (!(error instanceof ForebayError)) throw error;
  console.error(`${error.reason || error.code}: ${error.message}`);
  process.exitCode = 1;
} finally {
  client.close();
}
