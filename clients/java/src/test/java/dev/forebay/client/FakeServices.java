package dev.forebay.client;

import io.grpc.Context;
import io.grpc.Contexts;
import io.grpc.Grpc;
import io.grpc.InsecureServerCredentials;
import io.grpc.Metadata;
import io.grpc.Server;
import io.grpc.ServerCall;
import io.grpc.ServerCallHandler;
import io.grpc.ServerCredentials;
import io.grpc.ServerInterceptor;
import io.grpc.stub.StreamObserver;
import java.io.IOException;
import java.io.UncheckedIOException;
import java.time.Duration;
import java.util.List;
import java.util.Map;
import java.util.concurrent.CopyOnWriteArrayList;
import java.util.concurrent.CountDownLatch;
import java.util.function.BiConsumer;
import lmaas.autoscaler.v1.AutoscalerServiceGrpc.AutoscalerServiceImplBase;
import lmaas.autoscaler.v1.GetFleetRequest;
import lmaas.autoscaler.v1.GetFleetResponse;
import lmaas.autoscaler.v1.WatchFleetRequest;
import lmaas.autoscaler.v1.WatchFleetResponse;
import lmaas.deferred.v1.CancelJobRequest;
import lmaas.deferred.v1.CancelJobResponse;
import lmaas.deferred.v1.DeferredServiceGrpc.DeferredServiceImplBase;
import lmaas.deferred.v1.GetJobRequest;
import lmaas.deferred.v1.GetJobResponse;
import lmaas.deferred.v1.Job;
import lmaas.deferred.v1.JobStatus;
import lmaas.deferred.v1.StreamResultsRequest;
import lmaas.deferred.v1.StreamResultsResponse;
import lmaas.deferred.v1.SubmitJobRequest;
import lmaas.deferred.v1.SubmitJobResponse;
import lmaas.deferred.v1.WatchJobRequest;
import lmaas.deferred.v1.WatchJobResponse;
import lmaas.predictor.v1.LengthPrediction;
import lmaas.predictor.v1.LengthQuery;
import lmaas.predictor.v1.PredictLengthRequest;
import lmaas.predictor.v1.PredictLengthResponse;
import lmaas.predictor.v1.PredictorServiceGrpc.PredictorServiceImplBase;
import lmaas.scheduler.v1.Decision;
import lmaas.scheduler.v1.ExplainRequest;
import lmaas.scheduler.v1.ExplainResponse;
import lmaas.scheduler.v1.ListInstancesRequest;
import lmaas.scheduler.v1.ListInstancesResponse;
import lmaas.scheduler.v1.PlaceRequest;
import lmaas.scheduler.v1.PlaceResponse;
import lmaas.scheduler.v1.Placement;
import lmaas.scheduler.v1.ReportRequest;
import lmaas.scheduler.v1.ReportResponse;
import lmaas.scheduler.v1.SchedulerServiceGrpc.SchedulerServiceImplBase;

/** All of Forebay's services on one port; a test sets what it wants answered and reads what was asked. */
final class FakeServices implements AutoCloseable {
  /** Enough for a machine with much other work. */
  static final Duration PATIENCE = Duration.ofSeconds(60);

  BiConsumer<PlaceRequest, StreamObserver<PlaceResponse>> place =
      (request, answer) -> reply(answer, placed("l1"));
  BiConsumer<WatchFleetRequest, StreamObserver<WatchFleetResponse>> watch = (request, answer) -> {};
  Map<String, ListInstancesResponse> pages = Map.of();
  List<WatchJobResponse> jobs = List.of();
  List<StreamResultsResponse> results = List.of();

  final List<LengthQuery> queries = new CopyOnWriteArrayList<>();
  final List<ReportRequest> reports = new CopyOnWriteArrayList<>();
  final List<SubmitJobRequest> submitted = new CopyOnWriteArrayList<>();
  final CountDownLatch left = new CountDownLatch(1);
  volatile Metadata named = new Metadata();

  private final Server server;

  FakeServices() {
    this(InsecureServerCredentials.create());
  }

  FakeServices(ServerCredentials credentials) {
    server =
        Grpc.newServerBuilderForPort(0, credentials)
            .addService(new Scheduler())
            .addService(new Predictor())
            .addService(new Autoscaler())
            .addService(new Deferred())
            .intercept(new Reader())
            .build();
    try {
      server.start();
    } catch (IOException failure) {
      throw new UncheckedIOException(failure);
    }
  }

  String address() {
    return "127.0.0.1:" + server.getPort();
  }

  ForebayClient.Builder client() {
    return ForebayClient.builder()
        .scheduler(address())
        .predictor(address())
        .autoscaler(address())
        .timeout(PATIENCE);
  }

  DeferredClient.Builder deferred() {
    return DeferredClient.builder().gateway(address()).timeout(PATIENCE);
  }

  @Override
  public void close() {
    server.shutdownNow();
  }

  static PlaceResponse placed(String leaseId) {
    return PlaceResponse.newBuilder().setPlacement(Placement.newBuilder().setLeaseId(leaseId)).build();
  }

  static <T> void reply(StreamObserver<T> answer, T message) {
    answer.onNext(message);
    answer.onCompleted();
  }

  private static <T> void replyAll(StreamObserver<T> answer, List<T> messages) {
    messages.forEach(answer::onNext);
    answer.onCompleted();
  }

  private final class Reader implements ServerInterceptor {
    @Override
    public <Q, R> ServerCall.Listener<Q> interceptCall(
        ServerCall<Q, R> call, Metadata headers, ServerCallHandler<Q, R> next) {
      named = headers;
      Context context = Context.current();
      context.addListener(ended -> left.countDown(), Runnable::run);
      return Contexts.interceptCall(context, call, headers, next);
    }
  }

  private final class Scheduler extends SchedulerServiceImplBase {
    @Override
    public void place(PlaceRequest request, StreamObserver<PlaceResponse> answer) {
      place.accept(request, answer);
    }

    @Override
    public void report(ReportRequest request, StreamObserver<ReportResponse> answer) {
      reports.add(request);
      reply(answer, ReportResponse.getDefaultInstance());
    }

    @Override
    public void explain(ExplainRequest request, StreamObserver<ExplainResponse> answer) {
      Decision decision = Decision.newBuilder().setDecisionId(request.getDecisionId()).build();
      reply(answer, ExplainResponse.newBuilder().setDecision(decision).build());
    }

    @Override
    public void listInstances(ListInstancesRequest request, StreamObserver<ListInstancesResponse> answer) {
      reply(answer, pages.get(request.getPageToken()));
    }
  }

  private final class Predictor extends PredictorServiceImplBase {
    @Override
    public void predictLength(PredictLengthRequest request, StreamObserver<PredictLengthResponse> answer) {
      queries.addAll(request.getQueriesList());
      PredictLengthResponse.Builder all = PredictLengthResponse.newBuilder();
      request
          .getQueriesList()
          .forEach(one -> all.addPredictions(LengthPrediction.newBuilder().setQueryId(one.getQueryId())));
      reply(answer, all.build());
    }
  }

  private final class Autoscaler extends AutoscalerServiceImplBase {
    @Override
    public void getFleet(GetFleetRequest request, StreamObserver<GetFleetResponse> answer) {
      reply(answer, GetFleetResponse.newBuilder().setPolicy("kpa for " + request.getModel()).build());
    }

    @Override
    public void watchFleet(WatchFleetRequest request, StreamObserver<WatchFleetResponse> answer) {
      watch.accept(request, answer);
    }
  }

  private final class Deferred extends DeferredServiceImplBase {
    @Override
    public StreamObserver<SubmitJobRequest> submitJob(StreamObserver<SubmitJobResponse> answer) {
      return new StreamObserver<>() {
        @Override
        public void onNext(SubmitJobRequest part) {
          submitted.add(part);
        }

        @Override
        public void onError(Throwable failure) {}

        @Override
        public void onCompleted() {
          reply(answer, SubmitJobResponse.newBuilder().setJob(Job.newBuilder().setJobId("batch_1")).build());
        }
      };
    }

    @Override
    public void getJob(GetJobRequest request, StreamObserver<GetJobResponse> answer) {
      Job job = Job.newBuilder().setJobId(request.getJobId()).build();
      reply(answer, GetJobResponse.newBuilder().setJob(job).build());
    }

    @Override
    public void cancelJob(CancelJobRequest request, StreamObserver<CancelJobResponse> answer) {
      Job job = Job.newBuilder().setStatus(JobStatus.JOB_STATUS_CANCELLING).build();
      reply(answer, CancelJobResponse.newBuilder().setJob(job).build());
    }

    @Override
    public void watchJob(WatchJobRequest request, StreamObserver<WatchJobResponse> answer) {
      replyAll(answer, jobs);
    }

    @Override
    public void streamResults(StreamResultsRequest request, StreamObserver<StreamResultsResponse> answer) {
      replyAll(answer, results);
    }
  }
}
