package dev.forebay.client;

import io.grpc.Metadata;
import io.grpc.stub.MetadataUtils;
import java.nio.charset.StandardCharsets;
import java.time.Duration;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import lmaas.deferred.v1.CancelJobRequest;
import lmaas.deferred.v1.DeferredRequest;
import lmaas.deferred.v1.DeferredServiceGrpc;
import lmaas.deferred.v1.GetJobRequest;
import lmaas.deferred.v1.Job;
import lmaas.deferred.v1.JobSpec;
import lmaas.deferred.v1.Result;
import lmaas.deferred.v1.StreamResultsRequest;
import lmaas.deferred.v1.SubmitJobRequest;
import lmaas.deferred.v1.WatchJobRequest;
import lmaas.deferred.v1.WatchJobResponse;

/**
 * Asks a gateway about jobs: many requests that nobody waits for, answered once each before a deadline. Safe for any
 * number of threads; every verb fails with {@link ForebayException}.
 */
public final class DeferredClient implements AutoCloseable {
  private static final Duration SUBMIT_TIMEOUT = Duration.ofMinutes(10);
  private static final int PART_REQUESTS_MAX = 500;
  private static final int PART_BYTES_MAX = 1 << 20;

  private final Connection gateway;

  private DeferredClient(Builder builder) {
    gateway = builder.connect(builder.gateway, MetadataUtils.newAttachHeadersInterceptor(builder.named));
  }

  /** A client of {@code forebay up}, in plain text; what is told to the builder changes that. */
  public static Builder builder() {
    return new Builder();
  }

  /**
   * Makes a job of bodies, JSON as the endpoint takes it, by names of the caller's and in the map's order. Returns once
   * all is kept, within ten minutes.
   */
  public Job submit(Map<String, String> bodies, JobTerms terms) {
    return gateway.send(DeferredServiceGrpc.getSubmitJobMethod(), parts(bodies, terms), SUBMIT_TIMEOUT).getJob();
  }

  /** A job as it stands. */
  public Job job(String jobId) {
    GetJobRequest message = GetJobRequest.newBuilder().setJobId(jobId).build();
    return gateway.call(DeferredServiceGrpc.getGetJobMethod(), message).getJob();
  }

  /** Ends a job without the requests that have no answer yet. */
  public Job cancel(String jobId) {
    CancelJobRequest message = CancelJobRequest.newBuilder().setJobId(jobId).setRequestId(Requests.newId()).build();
    return gateway.call(DeferredServiceGrpc.getCancelJobMethod(), message).getJob();
  }

  /** The job at once and after every change, until it has ended. */
  public MessageStream<Job> watch(String jobId) {
    WatchJobRequest message = WatchJobRequest.newBuilder().setJobId(jobId).build();
    return gateway.open(DeferredServiceGrpc.getWatchJobMethod(), message).map(WatchJobResponse::getJob);
  }

  /** How the job's requests ended, those of now, in the order of submission. */
  public MessageStream<Result> results(String jobId) {
    return results(jobId, 0);
  }

  /** The same from after a result's number on: to go on after a stream that broke. */
  public MessageStream<Result> results(String jobId, long afterNumber) {
    StreamResultsRequest message =
        StreamResultsRequest.newBuilder().setJobId(jobId).setAfterNumber(afterNumber).build();
    return gateway
        .open(DeferredServiceGrpc.getStreamResultsMethod(), message)
        .flatMap(some -> some.getResultsList().iterator());
  }

  /** Ends the connection and all streams. */
  @Override
  public void close() {
    gateway.close();
  }

  /** Messages of at most 500 requests and about 1 MiB; the first one has the terms. */
  private static List<SubmitJobRequest> parts(Map<String, String> bodies, JobTerms terms) {
    List<SubmitJobRequest> parts = new ArrayList<>();
    SubmitJobRequest.Builder part =
        SubmitJobRequest.newBuilder()
            .setRequestId(terms.requestId().isEmpty() ? Requests.newId() : terms.requestId())
            .setSpec(spec(terms));
    int bytes = 0;
    for (Map.Entry<String, String> one : bodies.entrySet()) {
      int more = one.getValue().getBytes(StandardCharsets.UTF_8).length;
      int count = part.getRequestsCount();
      if (count == PART_REQUESTS_MAX || count > 0 && bytes + more > PART_BYTES_MAX) {
        parts.add(part.build());
        part = SubmitJobRequest.newBuilder();
        bytes = 0;
      }
      part.addRequests(DeferredRequest.newBuilder().setCustomId(one.getKey()).setBody(one.getValue()));
      bytes += more;
    }
    parts.add(part.build());
    return parts;
  }

  private static JobSpec spec(JobTerms terms) {
    var window =
        com.google.protobuf.Duration.newBuilder()
            .setSeconds(terms.window().getSeconds())
            .setNanos(terms.window().getNano());
    return JobSpec.newBuilder()
        .setEndpoint(terms.endpoint())
        .setCompletionWindow(window)
        .putAllMetadata(terms.metadata())
        .build();
  }

  /** Where the gateway's gRPC is, host:port, for whom to ask, and how to talk to it. */
  public static final class Builder extends ClientBuilder<Builder> {
    private final Metadata named = new Metadata();
    private String gateway = "127.0.0.1:7081";

    private Builder() {}

    public Builder gateway(String address) {
      gateway = address;
      return this;
    }

    /** The tenant's key, where the gateway wants one. */
    public Builder key(String key) {
      return name("authorization", "Bearer " + key);
    }

    /** The tenant's name, where no key names it. */
    public Builder tenant(String tenant) {
      return name("x-forebay-tenant", tenant);
    }

    /** Connects on first use. */
    public DeferredClient build() {
      return new DeferredClient(this);
    }

    @Override
    Builder self() {
      return this;
    }

    private Builder name(String key, String value) {
      named.put(Metadata.Key.of(key, Metadata.ASCII_STRING_MARSHALLER), value);
      return this;
    }
  }
}
