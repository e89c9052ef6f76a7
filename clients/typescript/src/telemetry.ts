/** OpenTelemetry: a span around every call, its context sent along (W3C, or whatever propagator is set). */

import { type Interceptor, InterceptingCall, type Metadata, status } from "@grpc/grpc-js";
import { context, propagation, SpanKind, SpanStatusCode, trace, type Tracer } from "@opentelemetry/api";

const SETTER = {
  set: (carrier: Metadata, name: string, value: string): void => carrier.set(name, value),
};

/**
 * The interceptor to pass in `interceptors`. Needs the package @opentelemetry/api; without an SDK it does nothing but
 * send the caller's context along. Names and attributes follow OpenTelemetry's semantic conventions for RPC.
 */
export function traced(tracer: Tracer = trace.getTracer("forebay-client")): Interceptor {
  return (options, nextCall) => {
    const [, service = "", method = ""] = options.method_definition.path.split("/");
    const attributes = { "rpc.system": "grpc", "rpc.service": service, "rpc.method": method };
    const span = tracer.startSpan(`${service}/${method}`, { kind: SpanKind.CLIENT, attributes });
    const here = trace.setSpan(context.active(), span);
    return new InterceptingCall(nextCall(options), {
      start(metadata, _listener, next) {
        propagation.inject(here, metadata, SETTER);
        next(metadata, {
          onReceiveStatus(ended, forward) {
            span.setAttribute("rpc.grpc.status_code", ended.code);
            if (ended.code !== status.OK) span.setStatus({ code: SpanStatusCode.ERROR, message: ended.details });
            span.end();
            forward(ended);
          },
        });
      },
    });
  };
}
