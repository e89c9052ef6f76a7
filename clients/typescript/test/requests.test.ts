/** The messages that callers make. */

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";

import { newRequest, SERVICE_CONFIG, SloClass } from "../src/index.js";
import { lengthQuery } from "../src/requests.js";

test("a long prompt is cut at a whole character", () => {
  const { promptHead } = newRequest("llama", `${"ä".repeat(4_095)}x€`, 7);
  assert.equal(promptHead, `${"ä".repeat(4_095)}x`);
  const emoji = newRequest("llama", `x${"😀".repeat(3_000)}`, 7).promptHead;
  assert.equal(emoji, `x${"😀".repeat(2_047)}`);
});

test("a request has a fresh id, a class, its turn and the digest of its system prompt", () => {
  const request = newRequest("llama", "Hi", 1, { turnNumber: 2, systemPrompt: "Be brief." });
  assert.match(request.requestId, /^[0-9a-f]{32}$/);
  assert.notEqual(request.requestId, newRequest("llama", "Hi", 1).requestId);
  assert.equal(request.sloClass, SloClass.INTERACTIVE_NORMAL);
  assert.deepEqual([request.turnNumber, request.systemDigest], [2, "213c22ed7234eb11"]);
  const query = lengthQuery(request);
  assert.deepEqual([query.turnNumber, query.systemDigest, query.queryId], [2, "213c22ed7234eb11", request.requestId]);
  assert.equal(newRequest("llama", "Hi", 1).systemDigest, "");
});

test("the service config is that of all clients", () => {
  const shared = readFileSync(new URL("../../../service_config.json", import.meta.url), "utf8");
  assert.deepEqual(JSON.parse(SERVICE_CONFIG), JSON.parse(shared));
});
