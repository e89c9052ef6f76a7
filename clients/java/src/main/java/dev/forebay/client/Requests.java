package dev.forebay.client;

import java.nio.charset.StandardCharsets;
import java.security.MessageDigest;
import java.security.NoSuchAlgorithmException;
import java.util.Arrays;
import java.util.HexFormat;
import java.util.UUID;
import lmaas.common.v1.SloClass;
import lmaas.predictor.v1.LengthQuery;
import lmaas.scheduler.v1.InferenceRequest;

/** Makes requests. */
public final class Requests {
  private static final int PROMPT_HEAD_BYTES = 8192;

  private Requests() {}

  /**
   * A request to place, with a fresh id, of class INTERACTIVE_NORMAL; set its other fields before it is built. Only the
   * first 8,192 bytes of the prompt are sent.
   */
  public static InferenceRequest.Builder newRequest(String model, String prompt, int promptTokens) {
    return InferenceRequest.newBuilder()
        .setRequestId(newId())
        .setModel(model)
        .setPromptTokens(promptTokens)
        .setSloClass(SloClass.SLO_CLASS_INTERACTIVE_NORMAL)
        .setPromptHead(head(prompt));
  }

  /** Names a system prompt in {@code setSystemDigest}; the prompt itself is never sent. */
  public static String systemDigest(String prompt) {
    if (prompt.isEmpty()) {
      return "";
    }
    try {
      byte[] sum = MessageDigest.getInstance("SHA-256").digest(prompt.getBytes(StandardCharsets.UTF_8));
      return HexFormat.of().formatHex(sum, 0, 8);
    } catch (NoSuchAlgorithmException missing) {
      throw new AssertionError("every Java runtime has SHA-256", missing);
    }
  }

  static String newId() {
    return UUID.randomUUID().toString().replace("-", "");
  }

  static LengthQuery lengthQuery(InferenceRequest request) {
    return LengthQuery.newBuilder()
        .setQueryId(request.getRequestId())
        .setModel(request.getModel())
        .setPromptTokens(request.getPromptTokens())
        .setTokensMax(request.getTokensMax())
        .setPromptHead(request.getPromptHead())
        .setApplication(request.getApplication())
        .setTenant(request.getTenant())
        .setTemperature(request.getTemperature())
        .setTurnNumber(request.getTurnNumber())
        .setSystemDigest(request.getSystemDigest())
        .setTraceparent(request.getTraceparent())
        .build();
  }

  private static String head(String prompt) {
    byte[] all = prompt.getBytes(StandardCharsets.UTF_8);
    if (all.length <= PROMPT_HEAD_BYTES) {
      return prompt;
    }
    int end = PROMPT_HEAD_BYTES;
    while ((all[end] & 0xC0) == 0x80) { // a byte inside a character
      end--;
    }
    return new String(Arrays.copyOf(all, end), StandardCharsets.UTF_8);
  }
}
