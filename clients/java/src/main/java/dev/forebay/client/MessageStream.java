package dev.forebay.client;

import io.grpc.StatusRuntimeException;
import java.util.Iterator;
import java.util.NoSuchElementException;
import java.util.function.Function;

/**
 * One message after the other as the server sends them. It can be walked through once, by one thread; {@link #close}
 * leaves it early and may come from any thread. A failure comes as {@link ForebayException} from {@link #hasNext}.
 */
public final class MessageStream<T> implements Iterator<T>, Iterable<T>, AutoCloseable {
  private final Iterator<T> messages;
  private final Runnable cancel;
  private volatile boolean closed;

  MessageStream(Iterator<T> messages, Runnable cancel) {
    this.messages = messages;
    this.cancel = cancel;
  }

  /** Waits for a message: false at the end, and once the stream is closed. */
  @Override
  public boolean hasNext() {
    try {
      return !closed && messages.hasNext();
    } catch (StatusRuntimeException failure) {
      if (closed) {
        return false;
      }
      close();
      throw ForebayException.from(failure);
    }
  }

  @Override
  public T next() {
    if (!hasNext()) {
      throw new NoSuchElementException("the stream has ended");
    }
    return messages.next();
  }

  /** The stream itself, for a for-each loop. */
  @Override
  public Iterator<T> iterator() {
    return this;
  }

  @Override
  public void close() {
    closed = true;
    cancel.run();
  }

  <U> MessageStream<U> map(Function<T, U> pick) {
    return flatMap(message -> Iterators.one(pick.apply(message)));
  }

  <U> MessageStream<U> flatMap(Function<T, Iterator<U>> pick) {
    return new MessageStream<>(Iterators.joined(this, pick), this::close);
  }
}
