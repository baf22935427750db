package access_test

import (
	"context"
	"crypto/sha256"
	"testing"
	"time"

	"go.uber.org/zap"

	"github.com/sallyport-dev/sallyport/pkg/access"
	"github.com/sallyport-dev/sallyport/pkg/change"
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

func BenchmarkAuthenticateService(b *testing.B) {
	w := newWorld(b, time.Now)
	r := withToken(w.service(b, time.Now(), nil))
	b.ReportAllocs()
	for b.Loop() {
		w.access.Known(r, maple, w.apps[0])
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

// BenchmarkAuthorizeOnCluster is BenchmarkAuthorize where copies are believed only as far as the change log is followed.
func BenchmarkAuthorizeOnCluster(b *testing.B) {
	w := newWorld(b, time.Now)
	follower := change.NewFollower(nothing{}, 0, zap.NewNop())
	if err := follower.Begin(b.Context()); err != nil {
		b.Fatal(err)
	}
	running, stop := context.WithCancel(b.Context())
	ended := make(chan error, 1)
	go func() { ended <- follower.Run(running) }()
	defer func() { stop(); <-ended }()
	w.access = access.New(access.Config{
		Keys: w.ring, Sessions: w, Services: w, Users: w, Apps: w, Recorder: w, Follower: w, Log: follower, Grace: grace,
	})
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

// nothing is a change log to which nobody adds.
type nothing struct{}

func (nothing) Since(context.Context, int64, int) ([]change.Change, error) { return nil, nil }
func (nothing) Version(context.Context) (int64, error)                     { return 0, nil }
