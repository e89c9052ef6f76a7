package dev.forebay.client;

import java.util.Collections;
import java.util.Iterator;
import java.util.List;
import java.util.function.Function;

/** What java.util lacks: iterators made of others. */
final class Iterators {
  private Iterators() {}

  static <T> Iterator<T> one(T value) {
    return List.of(value).iterator();
  }

  static <T, U> Iterator<U> joined(Iterator<T> from, Function<T, Iterator<U>> pick) {
    return new Iterator<>() {
      private Iterator<U> now = Collections.emptyIterator();

      @Override
      public boolean hasNext() {
        while (!now.hasNext() && from.hasNext()) {
          now = pick.apply(from.next());
        }
        return now.hasNext();
      }

      @Override
      public U next() {
        hasNext();
        return now.next();
      }
    };
  }
}
