package main

import (
	"testing"

	adminv1 "github.com/sallyport-dev/sallyport/proto/admin/v1"
)

func TestOriginsAreListedInPlainWords(t *testing.T) {
	for state, want := range map[string]string{
		"ok":          "oscar: ok",
		"busy":        "oscar: busy (it answers; requests wait for their turn)",
		"refused":     "oscar: refused (it takes no connection: is it running?)",
		"timeout":     "oscar: timeout (it does not answer in time: does it hang?)",
		"certificate": "oscar: certificate (not the expected one, or expired)",
		"error":       "oscar: error (it answers with an error, or breaks off)",
		"unchecked":   "oscar: not checked yet",
		"newer":       "oscar: newer",
	} {
		if got := origins(&adminv1.Connector{Origins: []*adminv1.OriginState{{Name: "oscar", State: state}}}); got != want {
			t.Errorf("%s: %q", state, got)
		}
	}
	two := []*adminv1.OriginState{{Name: "oscar", State: "ok", Healthy: true, CheckedMs: 1}, {Name: "companion", State: "refused", CheckedMs: 1_700_000_000_000}}
	want := "oscar: ok; companion: refused (it takes no connection: is it running?), checked " + when(1_700_000_000_000)
	if got := origins(&adminv1.Connector{Origins: two}); got != want {
		t.Errorf("two: %q", got)
	}
}
