package dev.forebay.examples;

import java.util.HashMap;
import java.util.Map;

/** Options of a command line: --name value each. */
final class Options {
  private final Map<String, String> given = new HashMap<>();

  /** Ends the program where an option is none of the known ones. */
  Options(Map<String, String> defaults, String... arguments) {
    given.putAll(defaults);
    for (int i = 0; i < arguments.length; i += 2) {
      String name = arguments[i].startsWith("--") ? arguments[i].substring(2) : "";
      if (!defaults.containsKey(name) || i + 1 == arguments.length) {
        System.err.println("error: cannot read " + arguments[i] + "; options with a value each: " + defaults.keySet());
        System.exit(2);
      }
      given.put(name, arguments[i + 1]);
    }
  }

  String text(String name) {
    return given.get(name);
  }
}
