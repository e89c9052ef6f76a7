// Made by generate.sh from clients/service_config.json.

/** gRPC's service config: every write carries an id that makes it safe to repeat, so one policy serves all methods. */
export const SERVICE_CONFIG = `{
  "methodConfig": [
    {
      "name": [
        {"service": "lmaas.predictor.v1.PredictorService"},
        {"service": "lmaas.scheduler.v1.SchedulerService"},
        {"service": "lmaas.autoscaler.v1.AutoscalerService"},
        {"service": "lmaas.metrics.v1.MetricsService"},
        {"service": "lmaas.deferred.v1.DeferredService"}
      ],
      "retryPolicy": {
        "maxAttempts": 3,
        "initialBackoff": "0.05s",
        "maxBackoff": "1s",
        "backoffMultiplier": 2,
        "retryableStatusCodes": ["UNAVAILABLE"]
      }
    }
  ]
}`;
