package tunnel

import (
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
)

func TestReasonSurvivesTheWire(t *testing.T) {
	for _, want := range []Reason{
		{Code: ReasonGoodbye},
		{Code: ReasonDrain, Message: "update", RetryAfter: 30 * time.Second},
		{Code: ReasonRevoked, Message: "17 connectors were revoked"},
		{Code: ReasonSuperseded},
		{Code: ReasonProtocol},
		{Code: ReasonTimeout},
		{Code: ReasonLost},
		{Code: ReasonShutdown},
		{Code: ReasonRefused, Message: "déjà vu"},
	} {
		code, text := want.Wire()
		if diff := cmp.Diff(want, ParseReason(uint64(code), text)); diff != "" {
			t.Error(diff)
		}
	}
}

func TestReasonFitsACloseFrame(t *testing.T) {
	_, text := Reason{Code: ReasonDrain, Message: strings.Repeat("é", 500), RetryAfter: 1000 * time.Hour}.Wire()
	if len(text) > 123 || !utf8.ValidString(text) {
		t.Errorf("%d bytes, valid UTF-8: %v", len(text), utf8.ValidString(text))
	}
	if got := ParseReason(4001, text).RetryAfter; got != time.Hour {
		t.Errorf("retry after %v; a peer may ask for an hour at most", got)
	}
}

func FuzzParseReason(f *testing.F) {
	f.Add(uint64(4001), "30 update")
	f.Add(uint64(0), "")
	f.Add(uint64(4008), "x\x00\n\xff")
	f.Fuzz(func(t *testing.T, code uint64, text string) {
		r := ParseReason(code, text)
		if strings.ContainsAny(r.Message, "\n\r\x00\x1b") || !utf8.ValidString(r.Message) || len(r.Message) > 200 {
			t.Errorf("message %q", r.Message)
		}
		if r.RetryAfter < 0 || r.RetryAfter > time.Hour || r.Code == "" {
			t.Errorf("%+v", r)
		}
	})
}
