package dev.forebay.client;

import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.concurrent.CompletableFuture;
import lmaas.autoscaler.v1.AutoscalerServiceGrpc;
import lmaas.autoscaler.v1.GetFleetRequest;
import lmaas.autoscaler.v1.GetFleetResponse;
import lmaas.autoscaler.v1.WatchFleetRequest;
import lmaas.autoscaler.v1.WatchFleetResponse;
import lmaas.common.v1.Instance;
import lmaas.predictor.v1.LengthPrediction;
import lmaas.predictor.v1.PredictLengthRequest;
import lmaas.predictor.v1.PredictLengthResponse;
import lmaas.predictor.v1.PredictorServiceGrpc;
import lmaas.scheduler.v1.Cancel;
import lmaas.scheduler.v1.Decision;
import lmaas.scheduler.v1.ExplainRequest;
import lmaas.scheduler.v1.ExplainResponse;
import lmaas.scheduler.v1.Finish;
import lmaas.scheduler.v1.InferenceRequest;
import lmaas.scheduler.v1.ListInstancesRequest;
import lmaas.scheduler.v1.ListInstancesResponse;
import lmaas.scheduler.v1.Outcome;
import lmaas.scheduler.v1.PlaceRequest;
import lmaas.scheduler.v1.PlaceResponse;
import lmaas.scheduler.v1.Placement;
import lmaas.scheduler.v1.Progress;
import lmaas.scheduler.v1.ReportRequest;
import lmaas.scheduler.v1.ScheduledInstance;
import lmaas.scheduler.v1.SchedulerServiceGrpc;

/**
 * Asks predictor, scheduler and autoscaler. Safe for any number of threads.
 *
 * <p>Every verb fails with {@link ForebayException}, after the builder's timeout at the latest. Verbs that end in Async
 * return at once; their futures fail with the same exception, and cancelling one cancels its call.
 */
public final class ForebayClient implements AutoCloseable {
  private final Connection scheduler;
  private final Connection predictor;
  private final Connection autoscaler;

  private ForebayClient(Builder builder) {
    scheduler = builder.connect(builder.scheduler);
    predictor = builder.connect(builder.predictor);
    autoscaler = builder.connect(builder.autoscaler);
  }

  /** A client of {@code forebay up}, in plain text; what is told to the builder changes that. */
  public static Builder builder() {
    return new Builder();
  }

  /** How long the answers will be, in the order of the requests. */
  public List<LengthPrediction> predict(InferenceRequest... requests) {
    return predictor.call(PredictorServiceGrpc.getPredictLengthMethod(), queries(requests)).getPredictionsList();
  }

  public CompletableFuture<List<LengthPrediction>> predictAsync(InferenceRequest... requests) {
    return predictor.start(
        PredictorServiceGrpc.getPredictLengthMethod(), queries(requests), PredictLengthResponse::getPredictionsList);
  }

  /** Waits for an instance. Placing the same request id again gives the same placement. */
  public Placement place(InferenceRequest request) {
    return scheduler.call(SchedulerServiceGrpc.getPlaceMethod(), asked(request)).getPlacement();
  }

  public CompletableFuture<Placement> placeAsync(InferenceRequest request) {
    return scheduler.start(SchedulerServiceGrpc.getPlaceMethod(), asked(request), PlaceResponse::getPlacement);
  }

  /** Renews a lease and tells how many tokens there are since the start of the answer. */
  public void progress(String leaseId, int generatedTokens) {
    report(progressed(leaseId, generatedTokens));
  }

  public CompletableFuture<Void> progressAsync(String leaseId, int generatedTokens) {
    return reportAsync(progressed(leaseId, generatedTokens));
  }

  /** Ends a lease whose prompt the model did not count. */
  public void finish(String leaseId, Outcome outcome, int generatedTokens) {
    finish(leaseId, outcome, generatedTokens, 0);
  }

  /** Ends a lease; {@code promptTokens} is the prompt's length as the model counted it. */
  public void finish(String leaseId, Outcome outcome, int generatedTokens, int promptTokens) {
    report(finished(leaseId, outcome, generatedTokens, promptTokens));
  }

  public CompletableFuture<Void> finishAsync(String leaseId, Outcome outcome, int generatedTokens, int promptTokens) {
    return reportAsync(finished(leaseId, outcome, generatedTokens, promptTokens));
  }

  /** Withdraws a request, placed or not. */
  public void cancel(String requestId) {
    report(cancelled(requestId));
  }

  public CompletableFuture<Void> cancelAsync(String requestId) {
    return reportAsync(cancelled(requestId));
  }

  /** The record of one decision of the scheduler. */
  public Decision explain(String decisionId) {
    return scheduler.call(SchedulerServiceGrpc.getExplainMethod(), named(decisionId)).getDecision();
  }

  public CompletableFuture<Decision> explainAsync(String decisionId) {
    return scheduler.start(SchedulerServiceGrpc.getExplainMethod(), named(decisionId), ExplainResponse::getDecision);
  }

  /** All instances with the load that the scheduler has put on them. */
  public List<ScheduledInstance> instances() {
    return instances("");
  }

  /** A model's instances with the load that the scheduler has put on them, all pages. */
  public List<ScheduledInstance> instances(String model) {
    List<ScheduledInstance> found = new ArrayList<>();
    String token = "";
    do {
      ListInstancesRequest message =
          ListInstancesRequest.newBuilder().setModel(model).setPageToken(token).build();
      ListInstancesResponse page = scheduler.call(SchedulerServiceGrpc.getListInstancesMethod(), message);
      found.addAll(page.getInstancesList());
      token = page.getNextPageToken();
    } while (!token.isEmpty());
    return found;
  }

  /** All instances with bounds, mode and policy, as the autoscaler has them. */
  public GetFleetResponse fleet() {
    return fleet("");
  }

  /** A model's instances with bounds, mode and policy, as the autoscaler has them. */
  public GetFleetResponse fleet(String model) {
    GetFleetRequest message = GetFleetRequest.newBuilder().setModel(model).build();
    return autoscaler.call(AutoscalerServiceGrpc.getGetFleetMethod(), message);
  }

  /** All instances now and after every change, until the stream is closed. */
  public MessageStream<List<Instance>> watchFleet() {
    return watchFleet("");
  }

  /** A model's instances now and after every change, until the stream is closed. */
  public MessageStream<List<Instance>> watchFleet(String model) {
    WatchFleetRequest message = WatchFleetRequest.newBuilder().setModel(model).build();
    return autoscaler
        .open(AutoscalerServiceGrpc.getWatchFleetMethod(), message)
        .map(WatchFleetResponse::getInstancesList);
  }

  /** Ends the connections and all streams. */
  @Override
  public void close() {
    scheduler.close();
    predictor.close();
    autoscaler.close();
  }

  private void report(ReportRequest message) {
    scheduler.call(SchedulerServiceGrpc.getReportMethod(), message);
  }

  private CompletableFuture<Void> reportAsync(ReportRequest message) {
    return scheduler.start(SchedulerServiceGrpc.getReportMethod(), message, answer -> null);
  }

  private static PredictLengthRequest queries(InferenceRequest... requests) {
    var queries = Arrays.stream(requests).map(Requests::lengthQuery).toList();
    return PredictLengthRequest.newBuilder().addAllQueries(queries).build();
  }

  private static PlaceRequest asked(InferenceRequest request) {
    return PlaceRequest.newBuilder().setRequest(request).build();
  }

  private static ExplainRequest named(String decisionId) {
    return ExplainRequest.newBuilder().setDecisionId(decisionId).build();
  }

  private static ReportRequest progressed(String leaseId, int generatedTokens) {
    var progress = Progress.newBuilder().setLeaseId(leaseId).setGeneratedTokens(generatedTokens);
    return ReportRequest.newBuilder().setProgress(progress).build();
  }

  private static ReportRequest finished(String leaseId, Outcome outcome, int generatedTokens, int promptTokens) {
    var finish =
        Finish.newBuilder()
            .setLeaseId(leaseId)
            .setOutcome(outcome)
            .setGeneratedTokens(generatedTokens)
            .setPromptTokens(promptTokens);
    return ReportRequest.newBuilder().setFinish(finish).build();
  }

  private static ReportRequest cancelled(String requestId) {
    return ReportRequest.newBuilder().setCancel(Cancel.newBuilder().setRequestId(requestId)).build();
  }

  /** Where the services are, host:port each, and how to talk to them. */
  public static final class Builder extends ClientBuilder<Builder> {
    private String scheduler = "127.0.0.1:7101";
    private String predictor = "127.0.0.1:7102";
    private String autoscaler = "127.0.0.1:7103";

    private Builder() {}

    public Builder scheduler(String address) {
      scheduler = address;
      return this;
    }

    public Builder predictor(String address) {
      predictor = address;
      return this;
    }

    public Builder autoscaler(String address) {
      autoscaler = address;
      return this;
    }

    /** Connects on first use. */
    public ForebayClient build() {
      return new ForebayClient(this);
    }

    @Override
    Builder self() {
      return this;
    }
  }
}
