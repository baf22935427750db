package proxy

import (
	"errors"
	"io"
	"maps"
	"net/http"
	"strconv"

	"github.com/sallyport-dev/sallyport/pkg/exchange"
	"github.com/sallyport-dev/sallyport/pkg/proxy/hop"
	"github.com/sallyport-dev/sallyport/pkg/wire"
)

// transportSecurity keeps browsers on TLS for a year (RFC 6797); subdomains are other people's to decide.
const transportSecurity = "max-age=31536000"

var errAddress = errors.New("the answer points to an address that may not leave")

// interim passes an informational answer on. 100 is left to net/http, which sends it when the body is first read: and that
// is after this one came. HTTP/3 has nobody who would.
func (c *carrying) interim(i wire.Interim) error {
	if i.Status == http.StatusContinue && c.r.ProtoMajor < 3 {
		return nil
	}
	h := c.w.Header()
	kept := maps.Clone(h)
	clear(h)
	for _, f := range hop.CleanAnswer(i.Header) {
		h[f.Name] = append(h[f.Name], f.Value)
	}
	c.w.WriteHeader(i.Status)
	clear(h)
	maps.Copy(h, kept)
	return nil
}

// fields returns the answer's fields as they may leave. An address inside the clinic was turned around by the connector; if one is
// still there it goes no further.
func (c *carrying) fields(head *wire.ResponseHead) (wire.Header, error) {
	fields := hop.CleanAnswer(head.Header)
	for i := range fields {
		f, verdict := &fields[i], hop.Kept
		switch f.Name {
		case "Location", "Content-Location":
			f.Value, verdict = hop.Location(f.Value, c.Host)
		case "Refresh":
			f.Value, verdict = hop.Refresh(f.Value, c.Host)
		}
		if verdict == hop.Blocked {
			return nil, errAddress
		}
	}
	return fields, nil
}

// take writes the answer's fields into the browser's, beside those that the edge set before. False means that they may not leave
// and that the browser got a page instead, with nothing of them.
func (c *carrying) take(head *wire.ResponseHead) bool {
	fields, err := c.fields(head)
	if err != nil {
		c.cause = err
		c.page(wire.CodeOriginProtocol, 0)
		return false
	}
	h := c.w.Header()
	for _, f := range fields {
		h[f.Name] = append(h[f.Name], f.Value)
	}
	if _, ok := h["Content-Type"]; !ok {
		h["Content-Type"] = nil // net/http guesses otherwise
	}
	h["Strict-Transport-Security"] = []string{transportSecurity}
	h["X-Request-Id"] = []string{string(c.RequestID)}
	return true
}

// answer writes head, body and trailer. Only an answer without a length is flushed in between.
func (c *carrying) answer(resp *exchange.Response) {
	if !c.take(&resp.Head) {
		return
	}
	h, status, length := c.w.Header(), resp.Head.Status, resp.Head.ContentLength
	bodyless := c.r.Method == http.MethodHead || status == http.StatusNoContent || status == http.StatusNotModified
	if length >= 0 && status != http.StatusNoContent && status != http.StatusNotModified {
		h["Content-Length"] = []string{strconv.FormatInt(length, 10)}
	}
	announced := c.announce(resp.Head.TrailerNames, bodyless || length >= 0)
	c.w.WriteHeader(status)
	c.headed, c.result.Status = true, status

	var dst io.Writer = c.w // how long it may take nothing is guard's to watch
	settled := func() {}
	if length < 0 && !bodyless {
		f := newFlusher(dst, c.control.Flush)
		dst, settled = f, f.Stop
	}
	n, err := c.buffers.Copy(dst, resp.Body)
	// A flush may write the head, and the trailer is about to change its map.
	settled()
	c.result.BytesOut = n
	if err != nil {
		c.broken(err)
		return
	}
	c.trailer(resp.Trailer(), announced)
}

// announce tells the browser which trailer fields will come. A body with a length has no place for them in HTTP/1.1.
func (c *carrying) announce(names []string, nowhere bool) map[string]bool {
	if nowhere || len(names) == 0 {
		return nil
	}
	announced := make(map[string]bool, len(names))
	for _, name := range names {
		if hop.TrailerName(name) {
			name = http.CanonicalHeaderKey(name)
			announced[name] = true
			c.w.Header().Add("Trailer", name)
		}
	}
	return announced
}

func (c *carrying) trailer(t wire.Header, announced map[string]bool) {
	if len(announced) == 0 {
		return
	}
	h := c.w.Header()
	for name := range announced {
		// What stands there belonged to the head, which has been sent.
		delete(h, name)
	}
	for _, f := range t {
		if name := http.CanonicalHeaderKey(f.Name); announced[name] {
			h[name] = append(h[name], f.Value)
		}
	}
}

// broken notes an answer that ended in its middle.
func (c *carrying) broken(err error) {
	c.cause = err
	var copying *hop.CopyError
	if errors.As(err, &copying) && !copying.Reading && c.r.Context().Err() == nil {
		c.result.ErrorCode = wire.CodeClientAbort
		return
	}
	c.result.ErrorCode = c.codeOf(err)
}
