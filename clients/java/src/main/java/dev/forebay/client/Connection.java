package dev.forebay.client;

import io.grpc.CallOptions;
import io.grpc.ClientCall;
import io.grpc.Context;
import io.grpc.ManagedChannel;
import io.grpc.MethodDescriptor;
import io.grpc.StatusRuntimeException;
import io.grpc.stub.ClientCalls;
import io.grpc.stub.StreamObserver;
import java.time.Duration;
import java.util.Iterator;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.CompletionException;
import java.util.concurrent.TimeUnit;
import java.util.function.Function;

/** A channel with the time that a call may take; turns failures into ForebayException. */
record Connection(ManagedChannel channel, Duration timeout) implements AutoCloseable {
  <Q, R> R call(MethodDescriptor<Q, R> method, Q message) {
    try {
      return ClientCalls.blockingUnaryCall(channel, method, within(timeout), message);
    } catch (StatusRuntimeException failure) {
      throw ForebayException.from(failure);
    }
  }

  <Q, R, T> CompletableFuture<T> start(MethodDescriptor<Q, R> method, Q message, Function<R, T> pick) {
    ClientCall<Q, R> call = channel.newCall(method, within(timeout));
    Answer<R> answer = new Answer<>();
    ClientCalls.asyncUnaryCall(call, message, answer);
    CompletableFuture<T> picked = answer.value.thenApply(pick);
    picked.whenComplete(
        (value, failure) -> {
          if (picked.isCancelled()) {
            call.cancel("the caller does not want the answer", null);
          }
        });
    return picked;
  }

  /** Sends all parts, then waits for the answer. */
  <Q, R> R send(MethodDescriptor<Q, R> method, Iterable<Q> parts, Duration limit) {
    Answer<R> answer = new Answer<>();
    StreamObserver<Q> call = ClientCalls.asyncClientStreamingCall(channel.newCall(method, within(limit)), answer);
    parts.forEach(call::onNext);
    call.onCompleted();
    try {
      return answer.value.join();
    } catch (CompletionException failure) {
      throw failure.getCause() instanceof ForebayException known ? known : failure;
    }
  }

  <Q, R> MessageStream<R> open(MethodDescriptor<Q, R> method, Q message) {
    Context.CancellableContext context = Context.current().withCancellation();
    Context before = context.attach();
    try {
      Iterator<R> messages =
          ClientCalls.blockingServerStreamingCall(channel, method, CallOptions.DEFAULT, message);
      return new MessageStream<>(messages, () -> context.cancel(null));
    } finally {
      context.detach(before);
    }
  }

  /** Ends what runs. */
  @Override
  public void close() {
    channel.shutdownNow();
    try {
      channel.awaitTermination(5, TimeUnit.SECONDS);
    } catch (InterruptedException interrupted) {
      Thread.currentThread().interrupt();
    }
  }

  private static CallOptions within(Duration limit) {
    return CallOptions.DEFAULT.withDeadlineAfter(limit.toNanos(), TimeUnit.NANOSECONDS);
  }

  /** The one answer of a call. */
  private static final class Answer<R> implements StreamObserver<R> {
    private final CompletableFuture<R> value = new CompletableFuture<>();

    @Override
    public void onNext(R message) {
      value.complete(message);
    }

    @Override
    public void onError(Throwable failure) {
      value.completeExceptionally(ForebayException.from(failure));
    }

    @Override
    public void onCompleted() {
      // A call that ends well has answered; this one only makes sure that nobody waits for ever.
      value.completeExceptionally(new IllegalStateException("the server ended the call without an answer"));
    }
  }
}
