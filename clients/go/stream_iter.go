//go:build go1.23

package forebay

import (
	"io"
	"iter"
)

// All ranges over the values and closes the stream; a failure comes last, with the zero value.
func (s *Stream[T]) All() iter.Seq2[T, error] {
	return func(yield func(T, error) bool) {
		defer s.Close()
		for {
			value, err := s.Recv()
			if err == io.EOF || !yield(value, err) || err != nil {
				return
			}
		}
	}
}
