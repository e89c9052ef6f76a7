package dev.forebay.client;

import java.util.List;
import java.util.Map;
import java.util.stream.Stream;

/**
 * gRPC's service config, the same in all of Forebay's clients: every write carries an id that makes it safe to repeat, so
 * one retry policy serves all methods.
 */
final class ServiceConfig {
  private ServiceConfig() {}

  /** As gRPC wants it: JSON's values, numbers as Double. */
  static Map<String, ?> asMap() {
    List<Map<String, String>> services =
        Stream.of(
                "lmaas.predictor.v1.PredictorService",
                "lmaas.scheduler.v1.SchedulerService",
                "lmaas.autoscaler.v1.AutoscalerService",
                "lmaas.metrics.v1.MetricsService",
                "lmaas.deferred.v1.DeferredService")
            .map(name -> Map.of("service", name))
            .toList();
    Map<String, ?> retry =
        Map.of(
            "maxAttempts", 3.0,
            "initialBackoff", "0.05s",
            "maxBackoff", "1s",
            "backoffMultiplier", 2.0,
            "retryableStatusCodes", List.of("UNAVAILABLE"));
    return Map.of("methodConfig", List.of(Map.of("name", services, "retryPolicy", retry)));
  }
}
