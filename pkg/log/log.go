// Package log owns how the operational log is built and the keys that its lines use, so that one request can be followed
// through edge and connector by the same words. It holds no PHI and no secrets: paths appear as templates, queries and
// e-mail addresses never. What was decided about whom is audit's record, not this.
package log

import (
	"errors"
	"fmt"
	"io"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"github.com/sallyport-dev/sallyport/pkg/id"
)

// Config chooses the form of the log.
type Config struct {
	Format string `conf:"format" help:"json or console"`
	Level  string `conf:"level" help:"debug, info, warn or error"`
}

// Default is JSON from info upwards.
func Default() Config { return Config{Format: "json", Level: "info"} }

// Validate reports every fault at once.
func (c Config) Validate() error {
	_, levelErr := parseLevel(c.Level)
	_, formatErr := encoder(c.Format)
	return errors.Join(levelErr, formatErr)
}

// New returns a logger that writes lines to w. Unknown formats and levels are errors.
func New(w io.Writer, format, level string) (*zap.Logger, error) {
	logger, _, err := NewAdjustable(w, format, level)
	return logger, err
}

// NewAdjustable is New with a way to change the level, of this logger and all that were made from it, while they are in use.
func NewAdjustable(w io.Writer, format, level string) (logger *zap.Logger, setLevel func(level string) error, err error) {
	first, err := parseLevel(level)
	if err != nil {
		return nil, nil, err
	}
	enc, err := encoder(format)
	if err != nil {
		return nil, nil, err
	}
	current := zap.NewAtomicLevelAt(first)
	setLevel = func(level string) error {
		next, err := parseLevel(level)
		if err == nil {
			current.SetLevel(next)
		}
		return err
	}
	return zap.New(zapcore.NewCore(enc, zapcore.Lock(zapcore.AddSync(w)), current)), setLevel, nil
}

func parseLevel(level string) (zapcore.Level, error) {
	switch level {
	case "debug", "info", "warn", "error": // zap knows more, with which an edge would not say that it stops
		return zapcore.ParseLevel(level)
	}
	return 0, fmt.Errorf("log.level %q: use debug, info, warn or error", level)
}

func encoder(format string) (zapcore.Encoder, error) {
	enc := zap.NewProductionEncoderConfig()
	enc.TimeKey, enc.EncodeTime = "time", zapcore.RFC3339NanoTimeEncoder
	switch format {
	case "json":
		return zapcore.NewJSONEncoder(enc), nil
	case "console":
		enc.EncodeTime = zapcore.TimeEncoderOfLayout("15:04:05.000")
		enc.EncodeLevel = zapcore.CapitalLevelEncoder
		return zapcore.NewConsoleEncoder(enc), nil
	}
	return nil, fmt.Errorf("log.format %q: use json or console", format)
}

// The keys that lines share; part of what operators may rely on.

// RequestID names one request from the browser to the origin.
func RequestID(r id.Request) zap.Field { return zap.String("request_id", string(r)) }

// Tenant names a clinic.
func Tenant(t id.Tenant) zap.Field { return zap.String("tenant", string(t)) }

// Site names a place with an origin.
func Site(s id.Site) zap.Field { return zap.String("site", string(s)) }

// App names a published application.
func App(a id.App) zap.Field { return zap.String("app", string(a)) }

// Connector names an enrolled connector.
func Connector(c id.Connector) zap.Field { return zap.String("connector", string(c)) }

// Session names a browser login by its id, which opens nothing.
func Session(s id.Session) zap.Field { return zap.String("session", string(s)) }
