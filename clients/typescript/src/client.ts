/** The client of scheduler, predictor and autoscaler. */

import type { MessageInitShape } from "@bufbuild/protobuf";

import { type CallOptions, Channel, type ConnectOptions } from "./channel.js";
import { AutoscalerService, type GetFleetResponse } from "./gen/lmaas/autoscaler/v1/autoscaler_service_pb.js";
import type { Instance } from "./gen/lmaas/common/v1/instance_pb.js";
import type { LengthPrediction } from "./gen/lmaas/predictor/v1/length_pb.js";
import { PredictorService } from "./gen/lmaas/predictor/v1/predictor_service_pb.js";
import type { Decision } from "./gen/lmaas/scheduler/v1/decision_pb.js";
import type { InferenceRequest, Outcome, Placement } from "./gen/lmaas/scheduler/v1/request_pb.js";
import { type ReportRequestSchema, SchedulerService } from "./gen/lmaas/scheduler/v1/scheduler_service_pb.js";
import type { ScheduledInstance } from "./gen/lmaas/scheduler/v1/status_pb.js";
import { type Addresses, lengthQuery } from "./requests.js";

type Report = NonNullable<MessageInitShape<typeof ReportRequestSchema>["event"]>;

/** Every verb throws ForebayError, within its deadline at the latest; `close` ends the connections. */
export class Client {
  readonly #scheduler: Channel;
  readonly #predictor: Channel;
  readonly #autoscaler: Channel;

  constructor(addresses: Addresses = {}, options: ConnectOptions = {}) {
    this.#scheduler = new Channel(addresses.scheduler ?? "127.0.0.1:7101", options);
    this.#predictor = new Channel(addresses.predictor ?? "127.0.0.1:7102", options);
    this.#autoscaler = new Channel(addresses.autoscaler ?? "127.0.0.1:7103", options);
  }

  /** Ends the connections and the calls on them. */
  close(): void {
    for (const channel of [this.#scheduler, this.#predictor, this.#autoscaler]) channel.close();
  }

  [Symbol.dispose](): void {
    this.close();
  }

  /** Predicted answer lengths, in the order of the requests. */
  async predict(requests: readonly InferenceRequest[], options?: CallOptions): Promise<LengthPrediction[]> {
    const queries = requests.map(lengthQuery);
    return (await this.#predictor.unary(PredictorService.method.predictLength, { queries }, options)).predictions;
  }

  /** Waits for an instance. Placing the same requestId again gives the same placement. */
  async place(request: InferenceRequest, options?: CallOptions): Promise<Placement> {
    return present((await this.#scheduler.unary(SchedulerService.method.place, { request }, options)).placement);
  }

  /** Renews a lease. */
  progress(leaseId: string, generatedTokens: number, options?: CallOptions): Promise<void> {
    return this.#report({ case: "progress", value: { leaseId, generatedTokens } }, options);
  }

  /** Ends a lease. `promptTokens` is the prompt's length as the model counted it, where it tells. */
  finish(
    leaseId: string,
    outcome: Outcome,
    generatedTokens: number,
    options: CallOptions & { promptTokens?: number } = {},
  ): Promise<void> {
    const value = { leaseId, outcome, generatedTokens, promptTokens: options.promptTokens ?? 0 };
    return this.#report({ case: "finish", value }, options);
  }

  /** Withdraws a request, placed or not. */
  cancel(requestId: string, options?: CallOptions): Promise<void> {
    return this.#report({ case: "cancel", value: { requestId } }, options);
  }

  /** The record of one decision of the scheduler. */
  async explain(decisionId: string, options?: CallOptions): Promise<Decision> {
    return present((await this.#scheduler.unary(SchedulerService.method.explain, { decisionId }, options)).decision);
  }

  /** The instances with the load that the scheduler has put on them; `model` selects one model. */
  async instances(model = "", options?: CallOptions): Promise<ScheduledInstance[]> {
    const found: ScheduledInstance[] = [];
    let pageToken = "";
    do {
      const page = await this.#scheduler.unary(SchedulerService.method.listInstances, { model, pageToken }, options);
      found.push(...page.instances);
      pageToken = page.nextPageToken;
    } while (pageToken);
    return found;
  }

  /** The fleet as the autoscaler sees it, with bounds, policy and forecasts. */
  fleet(model = "", options?: CallOptions): Promise<GetFleetResponse> {
    return this.#autoscaler.unary(AutoscalerService.method.getFleet, { model }, options);
  }

  /** The fleet now and after every change, until the loop is left; it has no deadline unless `timeoutMs` sets one. */
  async *watchFleet(model = "", options?: CallOptions): AsyncGenerator<Instance[], void, undefined> {
    const stream = this.#autoscaler.serverStream(AutoscalerService.method.watchFleet, { model }, options);
    for await (const message of stream) yield message.instances;
  }

  async #report(event: Report, options?: CallOptions): Promise<void> {
    await this.#scheduler.unary(SchedulerService.method.report, { event }, options);
  }
}

function present<T>(value: T | undefined): T {
  if (value === undefined) throw new TypeError("the server left out what the contract promises");
  return value;
}
