package dev.forebay.client;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assumptions.assumeTrue;

import com.google.gson.Gson;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Map;
import org.junit.jupiter.api.DisplayNameGeneration;
import org.junit.jupiter.api.DisplayNameGenerator;
import org.junit.jupiter.api.Test;

@DisplayNameGeneration(DisplayNameGenerator.ReplaceUnderscores.class)
class ServiceConfigTest {
  @Test
  void it_is_that_of_all_clients() throws IOException {
    Path shared = Path.of("../service_config.json");
    assumeTrue(Files.exists(shared), "this is not Forebay's repository");
    assertEquals(new Gson().fromJson(Files.readString(shared), Map.class), ServiceConfig.asMap());
  }
}
