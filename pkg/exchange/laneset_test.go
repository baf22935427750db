package exchange_test

import (
	"context"
	"errors"
	"io"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sallyport-dev/sallyport/pkg/exchange"
	"github.com/sallyport-dev/sallyport/pkg/exchange/exchangetest"
	"github.com/sallyport-dev/sallyport/pkg/tunnel"
	"github.com/sallyport-dev/sallyport/pkg/wire"
)

// withControl is a link that opens streams and names its congestion control.
type withControl struct {
	tunnel.Link
	congestion string
}

func (l *withControl) Info() tunnel.Info { return tunnel.Info{Congestion: l.congestion} }

func (l *withControl) Open(context.Context) (tunnel.Stream, error) { return nil, nil }

// TestMoveWaitsForItsLinks: where packet loss slows links down, a body waits for those that come up one after the other, and not
// for ever; elsewhere the first one will do.
func TestMoveWaitsForItsLinks(t *testing.T) {
	const pause = 600 * time.Millisecond
	for name, c := range map[string]struct {
		congestion  string
		links, want int
		after       time.Duration
	}{
		"bbr":                  {"bbr", 6, 1, 0},
		"not known":            {"", 6, 1, 0},
		"one link":             {"cubic", 1, 1, 1200 * time.Millisecond},
		"four links":           {"cubic", 4, 4, 3000 * time.Millisecond},
		"links without an end": {"cubic", 100, 9, 5400 * time.Millisecond},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s, began := exchange.NewLaneSet(0, nil), time.Now()
				for n := 1; ; n++ {
					if n <= c.links {
						s.Add(&withControl{congestion: c.congestion}, true, nil)
					}
					move, err := s.Move(t.Context())
					if err == nil {
						move.Done()
						if waited := time.Since(began); len(move.Streams) != min(c.want, 8) || waited != c.after {
							t.Errorf("to %d links after %v, want %d after %v", len(move.Streams), waited, c.want, c.after)
						}
						return
					}
					if !errors.Is(err, exchange.ErrNoBulk) || n > 20 {
						t.Fatal(err)
					}
					<-time.After(pause)
				}
			})
		})
	}
}

// TestBulkYieldsToARequestWithoutABody: most of what people do are such requests.
func TestBulkYieldsToARequestWithoutABody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		lanes := exchange.NewLaneSet(0, nil)
		lanes.Add(&withControl{congestion: "bbr"}, true, nil)
		move, err := lanes.Move(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		defer move.Done()
		rates := map[string]float64{}
		at := func(when string) {
			<-time.After(time.Second)
			rates[when] = lanes.Pacing().Rate
		}
		at("before")
		edge, connector := exchangetest.Memory()
		left := make(chan error, 1)
		go func() {
			s, err := connector.Accept(t.Context())
			if err == nil {
				_, err = wire.ReadKind(s)
			}
			if err == nil {
				err = exchange.ServeMoving(t.Context(), s, handler(func(_ context.Context, _ *exchange.Incoming, out *exchange.Answer) {
					at("meanwhile")
					_ = out.Head(wire.ResponseHead{Status: 204})
					_ = out.End(nil)
				}), lanes.Moves())
			}
			left <- err
		}()
		resp, err := exchange.Do(t.Context(), edge, &exchange.Request{Head: get()})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.Copy(io.Discard, resp.Body); err != nil {
			t.Fatal(err)
		}
		if err := <-left; err != nil {
			t.Fatal(err)
		}
		at("after")
		if rates["before"] != 0 || rates["meanwhile"] == 0 || rates["after"] != 0 {
			t.Errorf("bulk's rates are %v, want a limit only while the request runs", rates)
		}
	})
}
