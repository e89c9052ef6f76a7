package dev.forebay.examples;

import dev.forebay.client.ForebayClient;
import dev.forebay.client.ForebayException;
import dev.forebay.client.Requests;
import lmaas.common.v1.LengthQuantiles;
import lmaas.scheduler.v1.InferenceRequest;
import lmaas.scheduler.v1.Outcome;
import lmaas.scheduler.v1.Placement;

/** Predicts, places and reports one request against a running stack ({@code forebay up}): Place MODEL PROMPT. */
public final class Place {
  private Place() {}

  public static void main(String... arguments) {
    if (arguments.length != 2) {
      System.err.println("usage: place MODEL PROMPT");
      System.exit(2);
    }
    try (ForebayClient client = ForebayClient.builder().build()) {
      place(client, arguments[0], arguments[1]);
    } catch (ForebayException failure) {
      System.err.println(failure.getMessage());
      System.exit(1);
    }
  }

  private static void place(ForebayClient client, String model, String prompt) {
    InferenceRequest request =
        Requests.newRequest(model, prompt, prompt.length() / 4 + 1).setTokensMax(256).build();
    LengthQuantiles at = client.predict(request).get(0).getQuantiles();
    System.out.println("predicted: " + at.getP50Tokens() + " tokens (90 %: " + at.getP90Tokens() + ")");
    Placement placement = client.place(request);
    System.out.println("placed on: " + placement.getInstanceId() + " at " + placement.getGrpcAddress());
    System.out.println("because:   " + client.explain(placement.getDecisionId()).getReason());
    // Here the request goes to the instance; its answer then ends the lease.
    client.finish(placement.getLeaseId(), Outcome.OUTCOME_STOPPED, 42);
  }
}
