package dev.forebay.examples;

import dev.forebay.client.DeferredClient;
import dev.forebay.client.ForebayClient;
import dev.forebay.client.ForebayException;
import dev.forebay.client.JobTerms;
import dev.forebay.client.MessageStream;
import dev.forebay.client.Requests;
import java.time.Duration;
import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import lmaas.common.v1.Instance;
import lmaas.common.v1.InstanceState;
import lmaas.common.v1.LengthQuantiles;
import lmaas.deferred.v1.Job;
import lmaas.deferred.v1.Result;
import lmaas.scheduler.v1.Decision;
import lmaas.scheduler.v1.InferenceRequest;
import lmaas.scheduler.v1.Outcome;
import lmaas.scheduler.v1.Placement;

/**
 * Calls every verb of the client against a running stack and prints one JSON object a step; all of Forebay's clients have
 * the same program.
 */
public final class Scenario {
  private final ForebayClient client;
  private final DeferredClient deferred;
  private final String model;

  private Scenario(ForebayClient client, DeferredClient deferred, String model) {
    this.client = client;
    this.deferred = deferred;
    this.model = model;
  }

  public static void main(String... arguments) {
    Map<String, String> defaults =
        Map.of(
            "scheduler", "127.0.0.1:7101",
            "predictor", "127.0.0.1:7102",
            "autoscaler", "127.0.0.1:7103",
            "gateway", "127.0.0.1:7081",
            "model", "llama-8b");
    Options options = new Options(defaults, arguments);
    try (ForebayClient client = client(options);
        DeferredClient deferred = DeferredClient.builder().gateway(options.text("gateway")).build()) {
      new Scenario(client, deferred, options.text("model")).run();
    } catch (ForebayException | IllegalStateException failure) {
      System.err.println(failure.getMessage());
      System.exit(1);
    }
  }

  private static ForebayClient client(Options options) {
    return ForebayClient.builder()
        .scheduler(options.text("scheduler"))
        .predictor(options.text("predictor"))
        .autoscaler(options.text("autoscaler"))
        .build();
  }

  private void run() {
    InferenceRequest request = Requests.newRequest(model, "Write a haiku.", 6).setTokensMax(64).build();
    LengthQuantiles at = client.predict(request).get(0).getQuantiles();
    print(
        "predict",
        "p10", at.getP10Tokens(),
        "p50", at.getP50Tokens(),
        "p90", at.getP90Tokens(),
        "p97", at.getP97Tokens());
    Placement placement = client.place(request);
    String lease = placement.getLeaseId();
    boolean same = client.place(request).getLeaseId().equals(lease);
    print("place", "instance_id", placement.getInstanceId(), "lease_id", lease, "same_lease", same);
    client.progress(lease, 10);
    print("progress");
    client.finish(lease, Outcome.OUTCOME_STOPPED, 17, 6);
    print("finish");
    explain(placement.getDecisionId());
    refuse();
    watchFleet();
    defer();
  }

  private void explain(String decisionId) {
    Decision decision = client.explain(decisionId);
    print(
        "explain",
        "verdict", decision.getVerdict().name().replace("VERDICT_", ""),
        "instance_id", decision.getInstanceId(),
        "candidate_count", decision.getCandidatesCount());
  }

  private void refuse() {
    try {
      client.place(Requests.newRequest("", "Write a haiku.", 6).build());
    } catch (ForebayException refused) {
      String code = refused.code().name();
      print("refuse", "code", code, "reason", refused.reason(), "violations", refused.violations());
      return;
    }
    throw new IllegalStateException("a request without a model was not refused");
  }

  private void watchFleet() {
    try (MessageStream<List<Instance>> fleet = client.watchFleet(model)) {
      long ready =
          fleet.next().stream().filter(one -> one.getState() == InstanceState.INSTANCE_STATE_READY).count();
      print("watch_fleet", "ready_count", ready);
    }
  }

  private void defer() {
    Map<String, String> bodies = new LinkedHashMap<>();
    for (String name : List.of("a", "b")) {
      Map<String, ?> message = Map.of("role", "user", "content", "Write a haiku.");
      bodies.put(name, Json.write(Map.of("model", model, "messages", List.of(message), "max_tokens", 8)));
    }
    Job job = deferred.submit(bodies, JobTerms.DEFAULT.withWindow(Duration.ofHours(1)));
    try (MessageStream<Job> jobs = deferred.watch(job.getJobId())) {
      for (Job now : jobs) {
        job = now;
      }
    }
    List<String> names = new ArrayList<>();
    try (MessageStream<Result> results = deferred.results(job.getJobId())) {
      for (Result result : results) {
        names.add(answered(result));
      }
    }
    names.sort(null);
    print("deferred", "status", job.getStatus().name().replace("JOB_STATUS_", ""), "results", names);
  }

  private static String answered(Result result) {
    if (result.getStatusCode() != 200) {
      throw new IllegalStateException(
          result.getCustomId() + " ended with status " + result.getStatusCode() + ": " + result.getBody());
    }
    return result.getCustomId();
  }

  private static void print(String step, Object... values) {
    Map<String, Object> line = new LinkedHashMap<>();
    line.put("step", step);
    for (int i = 0; i < values.length; i += 2) {
      line.put(values[i].toString(), values[i + 1]);
    }
    System.out.println(Json.write(line));
  }
}
