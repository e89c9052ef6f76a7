package dev.forebay.examples;

import dev.forebay.client.ForebayClient;
import dev.forebay.client.Requests;
import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.concurrent.CompletableFuture;
import lmaas.scheduler.v1.InferenceRequest;
import lmaas.scheduler.v1.Outcome;

/**
 * Counts how many decisions a second one client gets from a scheduler: each caller places a request and finishes it, over
 * one connection, by futures. Prints one JSON object.
 */
public final class Bench {
  private static final double WARM_UP_S = 1;

  private final ForebayClient client;
  private final String model;
  private final long endNs;
  private final List<Long> placesNs = new ArrayList<>();
  private int failedCount;
  private Throwable last;

  private Bench(ForebayClient client, String model, double seconds) {
    this.client = client;
    this.model = model;
    endNs = System.nanoTime() + (long) (seconds * 1e9);
  }

  public static void main(String... arguments) {
    Map<String, String> defaults =
        Map.of("scheduler", "127.0.0.1:7101", "model", "llama-8b", "in-flight", "8", "seconds", "5");
    Options options = new Options(defaults, arguments);
    int inFlight = Integer.parseInt(options.text("in-flight"));
    try (ForebayClient client = ForebayClient.builder().scheduler(options.text("scheduler")).build()) {
      new Bench(client, options.text("model"), WARM_UP_S).run(inFlight);
      long beginNs = System.nanoTime();
      Bench measured = new Bench(client, options.text("model"), Double.parseDouble(options.text("seconds")));
      measured.run(inFlight);
      measured.print(inFlight, (System.nanoTime() - beginNs) / 1e9);
    }
  }

  private void run(int callers) {
    List<CompletableFuture<Void>> ends = new ArrayList<>();
    for (int i = 0; i < callers; i++) {
      CompletableFuture<Void> end = new CompletableFuture<>();
      ends.add(end);
      decide(end);
    }
    ends.forEach(CompletableFuture::join);
  }

  private void decide(CompletableFuture<Void> end) {
    if (System.nanoTime() >= endNs) {
      end.complete(null);
      return;
    }
    InferenceRequest request = Requests.newRequest(model, "Write a haiku.", 6).setTokensMax(16).build();
    long[] tookNs = {System.nanoTime()};
    client
        .placeAsync(request)
        .thenCompose(
            placement -> {
              tookNs[0] = System.nanoTime() - tookNs[0];
              return client.finishAsync(placement.getLeaseId(), Outcome.OUTCOME_STOPPED, 4, 6);
            })
        .whenComplete(
            (done, failure) -> {
              count(tookNs[0], failure);
              decide(end);
            });
  }

  private synchronized void count(long tookNs, Throwable failure) {
    if (failure == null) {
      placesNs.add(tookNs);
    } else {
      failedCount++;
      last = failure;
    }
  }

  private synchronized void print(int inFlight, double seconds) {
    if (last != null) {
      System.err.println("the last failure: " + last.getMessage());
    }
    placesNs.sort(null);
    Map<String, Object> line = new LinkedHashMap<>();
    line.put("language", "java");
    line.put("in_flight", inFlight);
    line.put("seconds", seconds);
    line.put("decision_count", placesNs.size());
    line.put("decisions_per_s", placesNs.size() / seconds);
    line.put("p50_us", quantile(0.5));
    line.put("p99_us", quantile(0.99));
    line.put("failed_count", failedCount);
    System.out.println(Json.write(line));
  }

  private long quantile(double share) {
    return placesNs.isEmpty() ? 0 : placesNs.get((int) (share * (placesNs.size() - 1))) / 1000;
  }
}
