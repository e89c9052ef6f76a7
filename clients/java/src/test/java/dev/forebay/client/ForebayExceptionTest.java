package dev.forebay.client;

import static org.junit.jupiter.api.Assertions.assertEquals;

import com.google.protobuf.Any;
import com.google.protobuf.ByteString;
import com.google.protobuf.UnknownFieldSet;
import io.grpc.Metadata;
import io.grpc.Status;
import java.io.IOException;
import java.time.Duration;
import java.util.Map;
import java.util.Optional;
import org.junit.jupiter.api.DisplayNameGeneration;
import org.junit.jupiter.api.DisplayNameGenerator;
import org.junit.jupiter.api.Test;

@DisplayNameGeneration(DisplayNameGenerator.ReplaceUnderscores.class)
class ForebayExceptionTest {
  private static final Metadata.Key<byte[]> DETAILS =
      Metadata.Key.of("grpc-status-details-bin", Metadata.BINARY_BYTE_MARSHALLER);

  private static ByteString message(int number, ByteString... values) {
    UnknownFieldSet.Field.Builder field = UnknownFieldSet.Field.newBuilder();
    for (ByteString value : values) {
      field.addLengthDelimited(value);
    }
    return UnknownFieldSet.newBuilder().addField(number, field.build()).build().toByteString();
  }

  private static ByteString text(int number, String value) {
    return message(number, ByteString.copyFromUtf8(value));
  }

  private static ByteString detail(String kind, ByteString value) {
    return Any.newBuilder().setTypeUrl("type.googleapis.com/google.rpc." + kind).setValue(value).build().toByteString();
  }

  private static ForebayException failed(Status status, byte[] details) {
    Metadata trailers = new Metadata();
    trailers.put(DETAILS, details);
    return ForebayException.from(status.asRuntimeException(trailers));
  }

  @Test
  void it_has_code_reason_violations_and_the_time_to_come_back() {
    var delay = com.google.protobuf.Duration.newBuilder().setSeconds(1).setNanos(500_000_000).build();
    ByteString violation = text(1, "request.model").concat(text(2, "must not be empty"));
    ByteString status =
        message(
            3,
            detail("ErrorInfo", text(1, "HELD_TOO_LONG")),
            detail("RetryInfo", message(1, delay.toByteString())),
            detail("BadRequest", message(1, violation)),
            detail("Help", text(1, "of no interest")));
    ForebayException failure =
        failed(Status.RESOURCE_EXHAUSTED.withDescription("no room"), status.toByteArray());
    assertEquals(Status.Code.RESOURCE_EXHAUSTED, failure.code());
    assertEquals("HELD_TOO_LONG", failure.reason());
    assertEquals(Optional.of(Duration.ofMillis(1500)), failure.retryAfter());
    assertEquals(Map.of("request.model", "must not be empty"), failure.violations());
    assertEquals("HELD_TOO_LONG: no room {request.model=must not be empty}", failure.getMessage());
  }

  @Test
  void without_details_it_says_what_there_is() {
    ForebayException failure =
        ForebayException.from(
            Status.UNAVAILABLE
                .withDescription("io exception")
                .withCause(new IOException("connection refused"))
                .asRuntimeException());
    assertEquals("UNAVAILABLE: io exception: connection refused", failure.getMessage());
    assertEquals("", failure.reason());
    assertEquals(Optional.empty(), failure.retryAfter());
    assertEquals(Map.of(), failure.violations());
  }

  @Test
  void details_that_cannot_be_read_hide_nothing_else() {
    ForebayException failure = failed(Status.NOT_FOUND.withDescription("gone"), new byte[] {0x1a, 0x7f, 1});
    assertEquals("NOT_FOUND: gone", failure.getMessage());
  }
}
