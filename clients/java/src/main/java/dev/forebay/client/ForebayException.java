package dev.forebay.client;

import com.google.protobuf.Any;
import com.google.protobuf.ByteString;
import com.google.protobuf.InvalidProtocolBufferException;
import com.google.protobuf.UnknownFieldSet;
import io.grpc.Metadata;
import io.grpc.Status;
import java.time.Duration;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Optional;

/** A call that failed. */
public final class ForebayException extends RuntimeException {
  private static final long serialVersionUID = 1L;
  private static final Metadata.Key<byte[]> DETAILS =
      Metadata.Key.of("grpc-status-details-bin", Metadata.BINARY_BYTE_MARSHALLER);

  private final Status.Code code;
  private final String reason;
  private final Duration retryAfter;
  private final transient Map<String, String> violations;

  private ForebayException(Status status, Details details, Throwable cause) {
    super(text(status, details), cause);
    code = status.getCode();
    reason = details.reason;
    retryAfter = details.retryAfter;
    violations = Map.copyOf(details.violations);
  }

  /** The gRPC status. */
  public Status.Code code() {
    return code;
  }

  /** Stable and UPPER_SNAKE_CASE; empty where the server gave none. */
  public String reason() {
    return reason;
  }

  /** How long to wait before trying again; empty where waiting does not help. */
  public Optional<Duration> retryAfter() {
    return Optional.ofNullable(retryAfter);
  }

  /** What is wrong, by field. */
  public Map<String, String> violations() {
    return violations == null ? Map.of() : violations;
  }

  static ForebayException from(Throwable failure) {
    Details details = new Details();
    Metadata trailers = Status.trailersFromThrowable(failure);
    byte[] packed = trailers == null ? null : trailers.get(DETAILS);
    if (packed != null) {
      details.read(packed);
    }
    return new ForebayException(Status.fromThrowable(failure), details, failure);
  }

  private static String text(Status status, Details details) {
    StringBuilder text = new StringBuilder(details.reason.isEmpty() ? status.getCode().name() : details.reason);
    if (status.getDescription() != null) {
      text.append(": ").append(status.getDescription());
    }
    if (status.getCause() != null && status.getCause().getMessage() != null) {
      text.append(": ").append(status.getCause().getMessage()); // what the network said
    }
    return details.violations.isEmpty() ? text.toString() : text + " " + details.violations;
  }

  /**
   * What google.rpc.Status says beside code and message. Its few fields are read by number, so that the client does not
   * need the package of these messages.
   */
  private static final class Details {
    private String reason = "";
    private Duration retryAfter;
    private final Map<String, String> violations = new LinkedHashMap<>();

    void read(byte[] status) {
      try {
        for (ByteString packed : field(ByteString.copyFrom(status), 3)) {
          Any detail = Any.parseFrom(packed);
          readOne(detail.getTypeUrl().substring(detail.getTypeUrl().lastIndexOf('.') + 1), detail.getValue());
        }
      } catch (InvalidProtocolBufferException unreadable) {
        // Code and message still say what happened.
      }
    }

    private void readOne(String kind, ByteString detail) throws InvalidProtocolBufferException {
      switch (kind) {
        case "ErrorInfo" -> reason = text(detail, 1);
        case "RetryInfo" -> {
          for (ByteString delay : field(detail, 1)) {
            var parsed = com.google.protobuf.Duration.parseFrom(delay);
            retryAfter = Duration.ofSeconds(parsed.getSeconds(), parsed.getNanos());
          }
        }
        case "BadRequest" -> {
          for (ByteString violation : field(detail, 1)) {
            violations.put(text(violation, 1), text(violation, 2));
          }
        }
        default -> {}
      }
    }

    private static List<ByteString> field(ByteString message, int number) throws InvalidProtocolBufferException {
      return UnknownFieldSet.parseFrom(message).getField(number).getLengthDelimitedList();
    }

    private static String text(ByteString message, int number) throws InvalidProtocolBufferException {
      List<ByteString> found = field(message, number);
      return found.isEmpty() ? "" : found.get(found.size() - 1).toStringUtf8();
    }
  }
}
