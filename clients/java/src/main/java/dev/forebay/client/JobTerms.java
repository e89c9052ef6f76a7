package dev.forebay.client;

import java.time.Duration;
import java.util.Map;

/**
 * The terms of a job.
 *
 * @param endpoint that the bodies are written for
 * @param window time until all is due
 * @param metadata notes, given back with the job
 * @param requestId makes submitting safe to repeat: the same id gives the same job; a fresh one where it is empty
 */
public record JobTerms(String endpoint, Duration window, Map<String, String> metadata, String requestId) {
  /** Chat completions, due within 24 hours. */
  public static final JobTerms DEFAULT = new JobTerms("/v1/chat/completions", Duration.ofHours(24), Map.of(), "");

  public JobTerms {
    metadata = Map.copyOf(metadata);
  }

  public JobTerms withEndpoint(String other) {
    return new JobTerms(other, window, metadata, requestId);
  }

  public JobTerms withWindow(Duration other) {
    return new JobTerms(endpoint, other, metadata, requestId);
  }

  public JobTerms withMetadata(Map<String, String> other) {
    return new JobTerms(endpoint, window, other, requestId);
  }

  public JobTerms withRequestId(String other) {
    return new JobTerms(endpoint, window, metadata, other);
  }
}
