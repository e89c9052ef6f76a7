package dev.forebay.examples;

import java.util.HashMap;
import java.util.Iterator;
import java.util.List;
import java.util.Map;
import java.util.TreeSet;

/** Options of a command line: --name value or --name=value each. */
final class Options {
  private final Map<String, String> given;

  /** Ends the program where an option is none of those that have a default. */
  Options(Map<String, String> defaults, String... arguments) {
    given = new HashMap<>(defaults);
    for (Iterator<String> rest = List.of(arguments).iterator(); rest.hasNext(); ) {
      String one = rest.next();
      String[] parts = one.split("=", 2);
      String name = parts[0].replaceFirst("^--", "");
      if (!one.startsWith("--") || !defaults.containsKey(name) || parts.length == 1 && !rest.hasNext()) {
        System.err.println(
            "error: cannot read " + one + "; options, with a value each: --"
                + String.join(", --", new TreeSet<>(defaults.keySet())));
        System.exit(2);
      }
      given.put(name, parts.length == 2 ? parts[1] : rest.next());
    }
  }

  String text(String name) {
    return given.get(name);
  }
}
