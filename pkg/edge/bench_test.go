package edge

import (
	"crypto/tls"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/sallyport-dev/sallyport/pkg/access"
	"github.com/sallyport-dev/sallyport/pkg/session"
)

// BenchmarkServe is the edge's own part of a request, from behind net/http to a link in memory and back, with what records it and
// without net/http, TLS and QUIC. The link's other end answers with nothing.
func BenchmarkServe(b *testing.B) {
	i := newIsolation(b, "")
	c := i.by
	serve := func(b *testing.B, name string, with func(*http.Request)) {
		b.Run(name, func(b *testing.B) {
			h := i.edge.public()
			b.ReportAllocs()
			b.RunParallel(func(pb *testing.PB) {
				r := httptest.NewRequest(http.MethodGet, "/oscar/provider/providercontrol.jsp?year=2026&month=3", nil)
				r.Host, r.TLS, r.RemoteAddr = c.host, &tls.ConnectionState{ServerName: c.host}, "10.1.2.3:4711"
				r.Header = http.Header{
					"User-Agent": {"Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0"}, "Accept": {"text/html"},
					"Accept-Language": {"en-CA"}, "Sec-Fetch-Site": {"same-origin"}, "Sec-Fetch-Mode": {"navigate"},
				}
				with(r)
				for pb.Next() {
					one := *r
					w := httptest.NewRecorder()
					if h.ServeHTTP(w, &one); w.Code != http.StatusNoContent {
						b.Errorf("answered %d", w.Code)
						return
					}
				}
			})
		})
	}
	serve(b, "person", func(r *http.Request) {
		r.AddCookie(&http.Cookie{Name: session.CookieReference, Value: c.reference})
		r.AddCookie(&http.Cookie{Name: session.CookieAccess, Value: c.access})
		r.AddCookie(&http.Cookie{Name: "JSESSIONID", Value: "0123456789ABCDEF0123456789ABCDEF"})
	})
	serve(b, "service", func(r *http.Request) { r.Header.Set(access.TokenHeader, c.token) })
}
