package dev.forebay.client;

import io.grpc.ChannelCredentials;
import io.grpc.ClientInterceptor;
import io.grpc.Grpc;
import io.grpc.InsecureChannelCredentials;
import io.grpc.ManagedChannelBuilder;
import io.grpc.TlsChannelCredentials;
import java.time.Duration;
import java.util.ArrayList;
import java.util.List;
import java.util.concurrent.TimeUnit;
import java.util.function.Consumer;

/** What both clients can be told of their connections. */
public abstract sealed class ClientBuilder<B extends ClientBuilder<B>>
    permits ForebayClient.Builder, DeferredClient.Builder {
  private final List<ClientInterceptor> interceptors = new ArrayList<>();
  private Duration timeout = Duration.ofSeconds(10);
  private ChannelCredentials credentials = InsecureChannelCredentials.create();
  private Consumer<ManagedChannelBuilder<?>> channels = channel -> {};

  ClientBuilder() {}

  abstract B self();

  /** Longest time for every call that is no stream. Default 10 s. */
  public B timeout(Duration limit) {
    if (limit.isNegative() || limit.isZero()) {
      throw new IllegalArgumentException("the timeout is " + limit + "; give one that is longer than 0");
    }
    timeout = limit;
    return self();
  }

  /** Speaks TLS and trusts whom the Java runtime trusts. Default is plain text. */
  public B tls() {
    return credentials(TlsChannelCredentials.create());
  }

  /** Speaks TLS with a root or a client certificate of one's own: see {@link TlsChannelCredentials#newBuilder}. */
  public B credentials(ChannelCredentials own) {
    credentials = own;
    return self();
  }

  /** Adds an interceptor, such as OpenTelemetry's; the one added last sees a call first. */
  public B interceptor(ClientInterceptor interceptor) {
    interceptors.add(interceptor);
    return self();
  }

  /** Changes each channel before it is built, after the client's own settings. */
  public B channels(Consumer<ManagedChannelBuilder<?>> change) {
    channels = channels.andThen(change);
    return self();
  }

  final Connection connect(String address, ClientInterceptor... own) {
    ManagedChannelBuilder<?> builder =
        Grpc.newChannelBuilder(address, credentials)
            .enableRetry()
            .defaultServiceConfig(ServiceConfig.asMap())
            .keepAliveTime(20, TimeUnit.SECONDS)
            .keepAliveTimeout(5, TimeUnit.SECONDS)
            .intercept(own)
            .intercept(interceptors);
    channels.accept(builder);
    return new Connection(builder.build(), timeout);
  }
}
