package log

import (
	"bytes"
	"io"

	"go.uber.org/zap"
)

// Std is where the standard library's own logger belongs (log.SetOutput, with no flags): libraries write there what they have
// no error for. What they quote came over the network and may be a patient's (net/http quotes bytes of an origin that nobody
// asked for), so that a line ends before its first quotation mark.
func Std(logger *zap.Logger) io.Writer { return std{logger.Named("library")} }

type std struct{ logger *zap.Logger }

func (s std) Write(line []byte) (int, error) {
	words, _, _ := bytes.Cut(line, []byte{'"'})
	s.logger.Warn(string(bytes.TrimSpace(words)))
	return len(line), nil
}
