package dev.forebay.client;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import io.grpc.CallOptions;
import io.grpc.Channel;
import io.grpc.ClientCall;
import io.grpc.ClientInterceptor;
import io.grpc.MethodDescriptor;
import io.grpc.Status;
import io.grpc.TlsChannelCredentials;
import io.grpc.TlsServerCredentials;
import java.nio.file.Path;
import java.security.KeyStore;
import java.time.Duration;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.CompletionException;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicInteger;
import javax.net.ssl.KeyManagerFactory;
import javax.net.ssl.TrustManagerFactory;
import lmaas.autoscaler.v1.WatchFleetResponse;
import lmaas.common.v1.Instance;
import lmaas.predictor.v1.LengthQuery;
import lmaas.scheduler.v1.Cancel;
import lmaas.scheduler.v1.Finish;
import lmaas.scheduler.v1.InferenceRequest;
import lmaas.scheduler.v1.ListInstancesResponse;
import lmaas.scheduler.v1.Outcome;
import lmaas.scheduler.v1.Progress;
import lmaas.scheduler.v1.ScheduledInstance;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.DisplayNameGeneration;
import org.junit.jupiter.api.DisplayNameGenerator;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.Timeout;
import org.junit.jupiter.api.io.TempDir;

@DisplayNameGeneration(DisplayNameGenerator.ReplaceUnderscores.class)
@Timeout(120)
class ForebayClientTest {
  private final FakeServices services = new FakeServices();

  @AfterEach
  void stop() {
    services.close();
  }

  private static InferenceRequest request() {
    return Requests.newRequest("llama-8b", "Write a haiku.", 6).build();
  }

  @Test
  void predict_asks_all_that_a_request_says_of_length() {
    InferenceRequest wanted =
        Requests.newRequest("llama-8b", "Write a haiku.", 6)
            .setTokensMax(64)
            .setApplication("chat")
            .setTenant("a")
            .setTemperature(0.5)
            .setTurnNumber(2)
            .setSystemDigest(Requests.systemDigest("You are brief."))
            .build();
    try (ForebayClient client = services.client().build()) {
      assertEquals(wanted.getRequestId(), client.predict(wanted, request()).get(0).getQueryId());
      assertEquals(2, client.predictAsync(wanted, request()).join().size());
    }
    assertEquals(
        LengthQuery.newBuilder()
            .setQueryId(wanted.getRequestId())
            .setModel("llama-8b")
            .setPromptTokens(6)
            .setTokensMax(64)
            .setPromptHead("Write a haiku.")
            .setApplication("chat")
            .setTenant("a")
            .setTemperature(0.5)
            .setTurnNumber(2)
            .setSystemDigest(wanted.getSystemDigest())
            .build(),
        services.queries.get(0));
  }

  @Test
  void place_sends_the_request_as_it_is() {
    InferenceRequest wanted = request();
    List<InferenceRequest> seen = new ArrayList<>();
    services.place =
        (asked, answer) -> {
          seen.add(asked.getRequest());
          FakeServices.reply(answer, FakeServices.placed("l1"));
        };
    try (ForebayClient client = services.client().build()) {
      assertEquals("l1", client.place(wanted).getLeaseId());
      assertEquals("l1", client.placeAsync(wanted).join().getLeaseId());
    }
    assertEquals(List.of(wanted, wanted), seen);
  }

  @Test
  void reports_say_what_happened() {
    try (ForebayClient client = services.client().build()) {
      client.progress("l1", 10);
      client.finish("l1", Outcome.OUTCOME_STOPPED, 17, 6);
      client.cancel("r1");
      client.progressAsync("l1", 10).join();
      client.finishAsync("l1", Outcome.OUTCOME_STOPPED, 17, 6).join();
      client.cancelAsync("r1").join();
    }
    for (int i : List.of(0, 3)) {
      assertEquals(
          Progress.newBuilder().setLeaseId("l1").setGeneratedTokens(10).build(),
          services.reports.get(i).getProgress());
      assertEquals(
          Finish.newBuilder()
              .setLeaseId("l1")
              .setOutcome(Outcome.OUTCOME_STOPPED)
              .setGeneratedTokens(17)
              .setPromptTokens(6)
              .build(),
          services.reports.get(i + 1).getFinish());
      assertEquals(Cancel.newBuilder().setRequestId("r1").build(), services.reports.get(i + 2).getCancel());
    }
  }

  @Test
  void explain_and_fleet_ask_for_what_is_named() {
    try (ForebayClient client = services.client().build()) {
      assertEquals("d1", client.explain("d1").getDecisionId());
      assertEquals("d1", client.explainAsync("d1").join().getDecisionId());
      assertEquals("kpa for llama-8b", client.fleet("llama-8b").getPolicy());
      assertEquals("kpa for ", client.fleet().getPolicy());
    }
  }

  @Test
  void instances_joins_all_pages() {
    services.pages =
        Map.of(
            "", page("a").setNextPageToken("2").build(),
            "2", page("b").build());
    try (ForebayClient client = services.client().build()) {
      assertEquals(List.of("a", "b"), client.instances().stream().map(i -> i.getInstance().getInstanceId()).toList());
    }
  }

  private static ListInstancesResponse.Builder page(String instanceId) {
    Instance instance = Instance.newBuilder().setInstanceId(instanceId).build();
    return ListInstancesResponse.newBuilder()
        .addInstances(ScheduledInstance.newBuilder().setInstance(instance));
  }

  @Test
  void a_call_ends_at_its_timeout() {
    services.place = (asked, answer) -> {};
    try (ForebayClient client = services.client().timeout(Duration.ofMillis(50)).build()) {
      ForebayException failure = assertThrows(ForebayException.class, () -> client.place(request()));
      assertEquals(Status.Code.DEADLINE_EXCEEDED, failure.code());
      CompletionException later =
          assertThrows(CompletionException.class, () -> client.placeAsync(request()).join());
      assertEquals(Status.Code.DEADLINE_EXCEEDED, ((ForebayException) later.getCause()).code());
    }
  }

  @Test
  void a_future_that_is_cancelled_cancels_its_call() throws InterruptedException {
    CountDownLatch came = new CountDownLatch(1);
    services.place = (asked, answer) -> came.countDown();
    try (ForebayClient client = services.client().build()) {
      CompletableFuture<?> placement = client.placeAsync(request());
      assertTrue(came.await(60, TimeUnit.SECONDS));
      placement.cancel(true);
      assertTrue(services.left.await(60, TimeUnit.SECONDS));
    }
  }

  @Test
  void unavailable_is_tried_again() {
    AtomicInteger calls = new AtomicInteger();
    services.place =
        (asked, answer) -> {
          if (calls.incrementAndGet() < 3) {
            answer.onError(Status.UNAVAILABLE.withDescription("restarting").asRuntimeException());
          } else {
            FakeServices.reply(answer, FakeServices.placed("l1"));
          }
        };
    try (ForebayClient client = services.client().build()) {
      assertEquals("l1", client.place(request()).getLeaseId());
    }
    assertEquals(3, calls.get());
  }

  @Test
  void the_fleet_is_watched_until_it_is_closed() throws InterruptedException {
    services.watch =
        (asked, answer) -> {
          for (String id : List.of("a", "b")) {
            Instance instance = Instance.newBuilder().setInstanceId(id).build();
            answer.onNext(WatchFleetResponse.newBuilder().addInstances(instance).build());
          }
        };
    try (ForebayClient client = services.client().timeout(Duration.ofNanos(1)).build()) {
      MessageStream<List<Instance>> fleet = client.watchFleet();
      assertEquals("a", fleet.next().get(0).getInstanceId());
      assertEquals("b", fleet.next().get(0).getInstanceId());
      fleet.close();
      assertFalse(fleet.hasNext());
      assertTrue(services.left.await(60, TimeUnit.SECONDS));
    }
  }

  @Test
  void a_stream_that_breaks_says_why() {
    services.watch =
        (asked, answer) -> answer.onError(Status.NOT_FOUND.withDescription("no such model").asRuntimeException());
    try (ForebayClient client = services.client().build();
        MessageStream<List<Instance>> fleet = client.watchFleet("none")) {
      ForebayException failure = assertThrows(ForebayException.class, fleet::hasNext);
      assertEquals(Status.Code.NOT_FOUND, failure.code());
    }
  }

  @Test
  void interceptors_see_every_call() {
    List<String> seen = new ArrayList<>();
    ClientInterceptor watch =
        new ClientInterceptor() {
          @Override
          public <Q, R> ClientCall<Q, R> interceptCall(
              MethodDescriptor<Q, R> method, CallOptions options, Channel next) {
            seen.add(method.getFullMethodName());
            return next.newCall(method, options);
          }
        };
    try (ForebayClient client = services.client().interceptor(watch).build()) {
      client.cancel("r1");
    }
    assertEquals(List.of("lmaas.scheduler.v1.SchedulerService/Report"), seen);
  }

  @Test
  void tls_is_spoken_where_it_is_asked_for(@TempDir Path folder) throws Exception {
    KeyStore keys = selfSigned(folder.resolve("keys"));
    KeyManagerFactory own = KeyManagerFactory.getInstance(KeyManagerFactory.getDefaultAlgorithm());
    own.init(keys, "secret".toCharArray());
    TrustManagerFactory trusted = TrustManagerFactory.getInstance(TrustManagerFactory.getDefaultAlgorithm());
    trusted.init(keys);
    var credentials = TlsServerCredentials.newBuilder().keyManager(own.getKeyManagers()).build();
    try (FakeServices secure = new FakeServices(credentials)) {
      var trust = TlsChannelCredentials.newBuilder().trustManager(trusted.getTrustManagers()).build();
      try (ForebayClient client = secure.client().credentials(trust).build()) {
        client.cancel("r1");
      }
      try (ForebayClient plain = secure.client().timeout(Duration.ofSeconds(5)).build();
          ForebayClient stranger = secure.client().tls().timeout(Duration.ofSeconds(5)).build()) {
        assertThrows(ForebayException.class, () -> plain.cancel("r1"));
        assertThrows(ForebayException.class, () -> stranger.cancel("r1"));
      }
      assertEquals(1, secure.reports.size());
    }
  }

  private static KeyStore selfSigned(Path file) throws Exception {
    Process keytool =
        new ProcessBuilder(
                Path.of(System.getProperty("java.home"), "bin", "keytool").toString(),
                "-genkeypair", "-alias", "own", "-keyalg", "EC", "-dname", "CN=localhost", "-ext", "san=ip:127.0.0.1",
                "-storetype", "PKCS12", "-storepass", "secret", "-keystore", file.toString())
            .redirectError(ProcessBuilder.Redirect.DISCARD)
            .start();
    assertEquals(0, keytool.waitFor());
    KeyStore keys = KeyStore.getInstance(file.toFile(), "secret".toCharArray());
    keys.setCertificateEntry("root", keys.getCertificate("own"));
    return keys;
  }

  @Test
  void a_wrong_timeout_is_refused() {
    assertThrows(IllegalArgumentException.class, () -> ForebayClient.builder().timeout(Duration.ZERO));
  }
}
