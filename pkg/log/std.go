package log

import (
	"io"
	"strings"

	"go.uber.org/zap"
)

// Std is where the standard library's own logger belongs (log.SetOutput, with no flags): libraries write there what they have
// no error for. Lines are Unquoted: net/http quotes there what an origin sends unasked.
func Std(logger *zap.Logger) io.Writer { return std{logger.Named("library")} }

type std struct{ logger *zap.Logger }

func (s std) Write(line []byte) (int, error) {
	s.logger.Warn(Unquoted(string(line)))
	return len(line), nil
}

// Unquoted is what a library says up to where it repeats what came over the network, which may be a patient's: to the first
// quotation mark, or a header line of net/textproto's.
func Unquoted(words string) string {
	words, _, _ = strings.Cut(words, `"`)
	if before, _, found := strings.Cut(words, "header line:"); found {
		words = before + "header line"
	}
	return strings.TrimSpace(words)
}
