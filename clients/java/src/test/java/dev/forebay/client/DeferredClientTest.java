package dev.forebay.client;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;

import io.grpc.Metadata;
import java.time.Duration;
import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import lmaas.deferred.v1.DeferredRequest;
import lmaas.deferred.v1.Job;
import lmaas.deferred.v1.JobSpec;
import lmaas.deferred.v1.JobStatus;
import lmaas.deferred.v1.Result;
import lmaas.deferred.v1.StreamResultsResponse;
import lmaas.deferred.v1.SubmitJobRequest;
import lmaas.deferred.v1.WatchJobResponse;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.DisplayNameGeneration;
import org.junit.jupiter.api.DisplayNameGenerator;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.Timeout;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;

@DisplayNameGeneration(DisplayNameGenerator.ReplaceUnderscores.class)
@Timeout(120)
class DeferredClientTest {
  private final FakeServices services = new FakeServices();
  private final DeferredClient client = services.deferred().key("secret").tenant("a").build();

  @AfterEach
  void stop() {
    client.close();
    services.close();
  }

  @Test
  void a_job_is_submitted_with_its_terms() {
    JobTerms terms =
        JobTerms.DEFAULT
            .withWindow(Duration.ofHours(1))
            .withMetadata(Map.of("for", "me"))
            .withRequestId("tonight");
    Map<String, String> bodies = new LinkedHashMap<>();
    bodies.put("b", "{}");
    bodies.put("a", "{\"model\":\"m\"}");
    assertEquals("batch_1", client.submit(bodies, terms).getJobId());
    var window = com.google.protobuf.Duration.newBuilder().setSeconds(3600);
    JobSpec spec =
        JobSpec.newBuilder()
            .setEndpoint("/v1/chat/completions")
            .setCompletionWindow(window)
            .putMetadata("for", "me")
            .build();
    assertEquals(
        List.of(
            SubmitJobRequest.newBuilder()
                .setRequestId("tonight")
                .setSpec(spec)
                .addRequests(DeferredRequest.newBuilder().setCustomId("b").setBody("{}"))
                .addRequests(DeferredRequest.newBuilder().setCustomId("a").setBody("{\"model\":\"m\"}"))
                .build()),
        services.submitted);
    assertEquals("Bearer secret", header("authorization"));
    assertEquals("a", header("x-forebay-tenant"));
  }

  private String header(String name) {
    return services.named.get(Metadata.Key.of(name, Metadata.ASCII_STRING_MARSHALLER));
  }

  @ParameterizedTest
  @CsvSource({"1001, 1, 500 500 1", "3, 600000, 1 1 1", "4, 500000, 2 2"})
  void a_large_job_is_sent_in_parts(int count, int bytes, String parts) {
    Map<String, String> bodies = new LinkedHashMap<>();
    for (int i = 0; i < count; i++) {
      bodies.put("r" + i, "x".repeat(bytes));
    }
    client.submit(bodies, JobTerms.DEFAULT);
    List<String> counts =
        services.submitted.stream().map(part -> Integer.toString(part.getRequestsCount())).toList();
    assertEquals(parts, String.join(" ", counts));
    assertEquals(32, services.submitted.get(0).getRequestId().length());
    assertFalse(services.submitted.get(1).hasSpec());
  }

  @Test
  void a_job_is_read_and_cancelled() {
    assertEquals("batch_1", client.job("batch_1").getJobId());
    assertEquals(JobStatus.JOB_STATUS_CANCELLING, client.cancel("batch_1").getStatus());
  }

  @Test
  void a_job_is_watched_to_its_end() {
    services.jobs = List.of(counted(1), counted(2));
    List<Long> counts = new ArrayList<>();
    try (MessageStream<Job> jobs = client.watch("batch_1")) {
      jobs.forEach(job -> counts.add(job.getCompletedCount()));
    }
    assertEquals(List.of(1L, 2L), counts);
  }

  private static WatchJobResponse counted(long count) {
    return WatchJobResponse.newBuilder().setJob(Job.newBuilder().setCompletedCount(count)).build();
  }

  @Test
  void results_come_one_by_one() {
    services.results = List.of(named("a", "b"), named("c"));
    List<String> names = new ArrayList<>();
    try (MessageStream<Result> results = client.results("batch_1")) {
      results.forEach(result -> names.add(result.getCustomId()));
    }
    assertEquals(List.of("a", "b", "c"), names);
  }

  private static StreamResultsResponse named(String... names) {
    StreamResultsResponse.Builder some = StreamResultsResponse.newBuilder();
    for (String name : names) {
      some.addResults(Result.newBuilder().setCustomId(name));
    }
    return some.build();
  }
}
