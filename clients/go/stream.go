package forebay

import (
	"context"
	"io"
)

// Stream gives one value after the other as the server sends them. It is for one goroutine; Close may come from any.
type Stream[T any] struct {
	cancel context.CancelFunc
	recv   func() (T, error)
}

// Recv waits for the next value. The end is io.EOF, a failure *Error; after either the stream is closed.
func (s *Stream[T]) Recv() (T, error) {
	value, err := s.recv()
	if err == nil {
		return value, nil
	}
	s.cancel()
	if err != io.EOF {
		err = fromCall(err)
	}
	return value, err
}

// Close ends the stream early. A stream whose end was seen needs none; closing twice is fine.
func (s *Stream[T]) Close() { s.cancel() }

func newStream[T any](cancel context.CancelFunc, recv func() (T, error)) *Stream[T] {
	return &Stream[T]{cancel: cancel, recv: recv}
}
