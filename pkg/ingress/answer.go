package ingress

import (
	"context"
	"errors"
	"io"
	"net/http"
	"strings"

	"github.com/sallyport-dev/sallyport/pkg/exchange"
	"github.com/sallyport-dev/sallyport/pkg/proxy/hop"
	"github.com/sallyport-dev/sallyport/pkg/wire"
)

// carry takes one exchange to an origin of its rule and the answer back. It returns the status, or what ended the exchange
// early. Another origin is asked only when nothing of the exchange has left for the first: at OSCAR even a GET may write.
func (in *Ingress) carry(ctx context.Context, g *group, rule *Rule, x *exchange.Incoming, out *exchange.Answer) (int, error) {
	if x.Head.ClientIP == "" {
		return 0, fail(wire.CodeProtocol, "the edge did not say who is asking", nil)
	}
	if home, ok := rule.home(x.Head.Path); ok && x.Head.Upgrade == "" {
		return http.StatusFound, redirect(out, home)
	}
	key := principalOf(ctx, x.Head.ClientIP)
	var tried []*origin
	for o := g.choose(key, nil, in.now()); ; {
		t := &trip{origin: o, in: x, out: out}
		status, err := in.attempt(ctx, t, key, rule)
		if err == nil || ctx.Err() != nil || t.began.Load() {
			return status, err
		}
		if f := explain(err); !f.unsent {
			return status, err
		}
		tried = append(tried, o)
		next := g.choose(key, tried, in.now())
		if next == nil {
			return status, err
		}
		o = next
	}
}

// attempt asks one origin.
func (in *Ingress) attempt(ctx context.Context, t *trip, key uint64, rule *Rule) (int, error) {
	o := t.origin
	if f := o.allow(); f != nil {
		return 0, f
	}
	if err := o.queue.acquire(ctx, key, rule.Timeouts.Queue); err != nil {
		if errors.Is(err, errBusy) {
			err = fail(wire.CodeOriginBusy, "the clinic's server is busy", err)
		}
		return 0, err
	}
	held := true
	release := func() {
		if held {
			held = false
			o.queue.release(key)
		}
	}
	defer release()

	// Nothing of net/http outlives the exchange, with which ctx ends.
	defer t.finish()
	resp, err := t.send(ctx)
	if err != nil {
		if ctx.Err() == nil {
			o.failed(explain(err))
		}
		return 0, err
	}
	defer func() { _ = resp.Body.Close() }()
	o.answered()
	t.finish()
	if resp.StatusCode == http.StatusSwitchingProtocols {
		return resp.StatusCode, in.upgrade(ctx, rule, t.in, t.out, resp, release)
	}
	return resp.StatusCode, in.answer(rule, t.in, t.out, resp)
}

// redirect sends the bare host to where the preset's application lives.
func redirect(out *exchange.Answer, to string) error {
	head := wire.ResponseHead{Status: http.StatusFound}
	head.Header.Add("Location", to)
	head.Header.Add("Cache-Control", "no-store")
	if err := out.Head(head); err != nil {
		return err
	}
	return out.End(nil)
}

func (in *Ingress) answer(rule *Rule, x *exchange.Incoming, out *exchange.Answer, resp *http.Response) error {
	head, err := answerHead(rule, x.Head.Host, resp)
	if err != nil {
		return err
	}
	head.ContentLength = resp.ContentLength
	head.TrailerNames = hop.TrailerNames(resp.Trailer)
	if err := out.Head(head); err != nil {
		return err
	}
	// The exchange sends what waits after some milliseconds by itself, so nothing is flushed here.
	body := &source{Reader: resp.Body}
	if _, err := out.ReadFrom(body); err != nil {
		if body.broken != nil {
			return fail(wire.CodeOriginAbort, "the clinic's server broke off in the middle of its answer", body.broken)
		}
		return fail(wire.CodeClientAbort, "the answer was not taken", err)
	}
	return out.End(hop.Trailer(resp.Trailer))
}

// source is an origin's body; it remembers what broke it.
type source struct {
	io.Reader
	broken error
}

func (s *source) Read(p []byte) (int, error) {
	n, err := s.Reader.Read(p)
	if err != nil && err != io.EOF { //nolint:errorlint // a wrapped EOF is an early end
		s.broken = err
	}
	return n, err
}

// answerHead returns the answer's fields with the addresses in them turned towards the public host.
func answerHead(rule *Rule, public string, resp *http.Response) (wire.ResponseHead, error) {
	head := wire.ResponseHead{Status: resp.StatusCode, Header: hop.AnswerFields(resp.Header)}
	for i := range head.Header {
		f := &head.Header[i]
		verdict := hop.Kept
		switch f.Name {
		case "Location", "Content-Location":
			f.Value, verdict = hop.Location(f.Value, public, rule.hosts()...)
			if rule.Preset == presetOSCAR {
				f.Value = withoutSessionID(f.Value)
			}
		case "Refresh":
			f.Value, verdict = hop.Refresh(f.Value, public, rule.hosts()...)
		}
		if verdict == hop.Blocked {
			return head, fail(wire.CodeOriginProtocol, "the clinic's server points to an address that browsers may misread", nil)
		}
	}
	return head, nil
}

// upgrade joins the two connections after a 101. The place in the queue is given back: an idle socket does not occupy one
// of the origin's threads.
func (in *Ingress) upgrade(ctx context.Context, rule *Rule, x *exchange.Incoming, out *exchange.Answer, resp *http.Response, release func()) error {
	protocol := resp.Header.Get("Upgrade")
	origin, ok := resp.Body.(io.ReadWriteCloser)
	if !ok || x.Head.Upgrade == "" || !strings.EqualFold(protocol, x.Head.Upgrade) {
		return fail(wire.CodeOriginProtocol, "the clinic's server switched to a protocol that nobody asked for", nil)
	}
	head, err := answerHead(rule, x.Head.Host, resp)
	if err != nil {
		return err
	}
	head.Upgrade = protocol
	browser, err := out.Upgrade(head)
	if err != nil {
		return err
	}
	release()
	if _, _, err := in.buffers.Splice(ctx, browser, origin); err != nil && ctx.Err() == nil {
		return fail(wire.CodeOriginAbort, "the upgraded connection broke", err)
	}
	return nil
}
