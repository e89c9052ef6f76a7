package dev.forebay.client;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertNotEquals;

import org.junit.jupiter.api.DisplayNameGeneration;
import org.junit.jupiter.api.DisplayNameGenerator;
import org.junit.jupiter.api.Test;

@DisplayNameGeneration(DisplayNameGenerator.ReplaceUnderscores.class)
class RequestsTest {
  @Test
  void a_prompt_is_cut_at_a_whole_character() {
    assertEquals("a".repeat(8191), Requests.newRequest("m", "a".repeat(8191) + "é and more", 9).getPromptHead());
    assertEquals("é".repeat(4096), Requests.newRequest("m", "é".repeat(4096), 9).getPromptHead());
  }

  @Test
  void requests_have_ids_of_their_own() {
    String id = Requests.newRequest("m", "", 1).getRequestId();
    assertEquals(32, id.length());
    assertNotEquals(id, Requests.newRequest("m", "", 1).getRequestId());
  }

  @Test
  void a_system_prompt_is_named_by_its_digest() {
    // printf 'You are brief.' | sha256sum
    assertEquals("d4c181f057fc761d", Requests.systemDigest("You are brief."));
    assertEquals("", Requests.systemDigest(""));
  }
}
