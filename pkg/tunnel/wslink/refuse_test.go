package wslink_test

import (
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/sallyport-dev/sallyport/pkg/tunnel"
	"github.com/sallyport-dev/sallyport/pkg/tunnel/linktest"
	"github.com/sallyport-dev/sallyport/pkg/tunnel/wslink"
)

func TestAcceptRefusesWhatIsNoTunnel(t *testing.T) {
	valid := func() *http.Request {
		r := httptest.NewRequest(http.MethodGet, "https://edge.test"+wslink.Path, nil)
		r.TLS = &tls.ConnectionState{Version: tls.VersionTLS13}
		r.Header.Set("Sec-WebSocket-Protocol", wslink.Subprotocol)
		return r
	}
	for name, change := range map[string]func(*http.Request){
		"HTTP/2":           func(r *http.Request) { r.Proto, r.ProtoMajor, r.ProtoMinor = "HTTP/2.0", 2, 0 },
		"HTTP/1.0":         func(r *http.Request) { r.Proto, r.ProtoMinor = "HTTP/1.0", 0 },
		"no TLS":           func(r *http.Request) { r.TLS = nil },
		"TLS 1.2":          func(r *http.Request) { r.TLS.Version = tls.VersionTLS12 },
		"a browser":        func(r *http.Request) { r.Header.Set("Origin", "https://edge.test") },
		"another protocol": func(r *http.Request) { r.Header.Set("Sec-WebSocket-Protocol", "chat, sallyport.v0") },
		"no upgrade":       func(*http.Request) {},
	} {
		r, w := valid(), httptest.NewRecorder()
		change(r)
		if _, err := wslink.Accept(w, r, wslink.Config{}); err == nil || w.Code < 400 || w.Code > 499 {
			t.Errorf("%s: %v, status %d", name, err, w.Code)
		}
	}
}

func TestDialSaysWhatTheEdgeAnswered(t *testing.T) {
	for status, want := range map[int]string{
		http.StatusForbidden: tunnel.ReasonRefused, http.StatusTooManyRequests: tunnel.ReasonRefused,
		http.StatusBadGateway: tunnel.ReasonLost, http.StatusFound: tunnel.ReasonLost, http.StatusOK: tunnel.ReasonLost,
	} {
		server, client := linktest.TLS(t)
		edge := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Retry-After", "120")
			w.Header().Set("Location", "https://elsewhere.test/")
			w.WriteHeader(status)
			_, _ = io.WriteString(w, "words")
		}))
		edge.TLS = server
		edge.StartTLS()
		_, err := (&wslink.Dialer{}).Dial(t.Context(), tunnel.Target{Address: edge.Listener.Addr().String(), TLS: client})
		edge.Close()
		var closed *tunnel.ClosedError
		if !errors.As(err, &closed) || closed.Reason.Code != want || closed.Reason.RetryAfter != 2*time.Minute {
			t.Errorf("status %d: %v", status, err)
		}
	}
}

func TestRefusedClientHearsThatItIsRefused(t *testing.T) {
	server, client := linktest.TLS(t)
	server.ClientAuth = tls.RequireAnyClientCert
	refusedInTLS(t, server, client)
}

// A server without a certificate for the name that was asked for refuses nobody's enrolment.
func TestServerOfAnotherNameSaysSo(t *testing.T) {
	server, client := linktest.TLS(t)
	server.GetConfigForClient = func(*tls.ClientHelloInfo) (*tls.Config, error) { return &tls.Config{MinVersion: tls.VersionTLS13}, nil }
	if said := refusedInTLS(t, server, client); said != tunnel.UnknownName {
		t.Errorf("heard: %s", said)
	}
}

// refusedInTLS dials a server and returns what the client hears: that the peer refused it, and why.
func refusedInTLS(t *testing.T, server, client *tls.Config) string {
	t.Helper()
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	serve(t, l, server)
	_, err = (&wslink.Dialer{}).Dial(t.Context(), tunnel.Target{Address: l.Addr().String(), TLS: client})
	var closed *tunnel.ClosedError
	if !errors.As(err, &closed) || closed.Reason.Code != tunnel.ReasonRefused || !closed.Remote {
		t.Fatalf("the refused client heard: %v", err)
	}
	return closed.Reason.Message
}

func TestUntrustedServerIsRefused(t *testing.T) {
	server, _ := linktest.TLS(t)
	_, stranger := linktest.TLS(t)
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	serve(t, l, server)
	_, err = (&wslink.Dialer{}).Dial(t.Context(), tunnel.Target{Address: l.Addr().String(), TLS: stranger})
	var closed *tunnel.ClosedError
	if !errors.As(err, &closed) || closed.Reason.Code != tunnel.ReasonRefused || closed.Remote {
		t.Errorf("dialing a server with a foreign certificate: %v", err)
	}
}
