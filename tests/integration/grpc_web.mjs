// Calls the scheduler by gRPC-Web over fetch, as a page in a browser does; prints what it was told as JSON.
// Run: node grpc_web.mjs CLIENTS_TYPESCRIPT BASE_URL
import { createRequire } from "node:module";
import { pathToFileURL } from "node:url";
import path from "node:path";

const [folder, baseUrl] = process.argv.slice(2);
const from = createRequire(path.join(path.resolve(folder), "package.json"));
const load = (name) => import(pathToFileURL(from.resolve(name)).href);
const { createClient, ConnectError, Code } = await load("@connectrpc/connect");
const { createGrpcWebTransport } = await load("@connectrpc/connect-web");
const generated = path.join(path.resolve(folder), "dist/src/gen/lmaas/scheduler/v1/scheduler_service_pb.js");
const { SchedulerService } = await import(pathToFileURL(generated).href);

const scheduler = createClient(SchedulerService, createGrpcWebTransport({ baseUrl }));
const told = {};
const request = { requestId: "web-1", model: "llama", promptTokens: 10, sloClass: 2 };
const { placement } = await scheduler.place({ request });
told.instance = placement.instanceId;
for await (const fleet of scheduler.watchInstances({})) {
  told.instances = fleet.instances.map((one) => one.instance.instanceId).sort();
  break;
}
try {
  await scheduler.place({ request: { ...request, requestId: "web-2", model: "" } });
} catch (error) {
  told.error = Code[ConnectError.from(error).code];
}
console.log(JSON.stringify(told));
process.exit(0);
