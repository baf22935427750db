package access_test

import (
	"crypto/sha256"
	"testing"
	"time"
)

// BenchmarkCalibration is a fixed piece of work beside which the rows below can be read on any machine.
func BenchmarkCalibration(b *testing.B) {
	data := make([]byte, 4096)
	for b.Loop() {
		sha256.Sum256(data)
	}
}

func BenchmarkAuthenticate(b *testing.B) {
	w := newWorld(b, time.Now)
	value := w.signIn("ses_1", time.Now())
	who, err := w.access.Authenticate(get("/", ref, value), maple, oscar())
	if err != nil {
		b.Fatal(err)
	}
	r := get("/oscar/x", ref, value, at, who.SetCookies[0].Value)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := w.access.Authenticate(r, maple, w.apps[0]); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkAuthorize(b *testing.B) {
	w := newWorld(b, time.Now)
	q := question(w.person(b, "ses_1"), w.apps[0])
	b.ReportAllocs()
	for b.Loop() {
		w.recorded = w.recorded[:0]
		g, err := w.access.Authorize(b.Context(), q)
		if err != nil {
			b.Fatal(err)
		}
		if _, _, err := w.access.Assertions(g, "con_1", 1); err != nil {
			b.Fatal(err)
		}
		g.Lease.Release()
	}
}
