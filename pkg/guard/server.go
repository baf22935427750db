package guard

import (
	"net/http"
	"time"

	"github.com/sallyport-dev/sallyport/pkg/gather"
)

// The times and windows of a listener for browsers.
const (
	HeaderTimeout = 5 * time.Second  // TLS handshake and headers, each
	IdleTimeout   = 75 * time.Second // between requests of a connection
	PingAfter     = 15 * time.Second // HTTP/2: of silence
	PingTimeout   = 15 * time.Second
	MaxStreams    = 100
	StreamWindow  = 256 << 10
	ConnWindow    = 1 << 20
	// FrameSize is the largest HTTP/2 frame taken; each connection keeps a buffer of the largest that came. Browsers send no
	// larger ones than this, which is the protocol's own default (RFC 9113 §6.5.2).
	FrameSize = 16 << 10
	// HeaderSlack is what a transport takes beyond MaxHeaderBytes, so that it is Check that refuses, with a page. HTTP/3 counts
	// 32 bytes for each field on top (RFC 9114 §4.2.2), and cookies are a field each there.
	HeaderSlack = 8 << 10
	// MaxStrangerBody is the largest body that is read from somebody unknown.
	MaxStrangerBody = 64 << 10
)

// Server sets the limits of a listener for browsers: HTTP/1.1 and HTTP/2 over TLS, times for headers and idling, windows.
// There is no limit on the whole time of a request or an answer; Pace bounds how slow either may be.
func Server(s *http.Server) {
	s.ReadHeaderTimeout = HeaderTimeout
	s.IdleTimeout = IdleTimeout
	s.ReadTimeout, s.WriteTimeout = 0, 0
	s.MaxHeaderBytes = MaxHeaderBytes
	s.DisableGeneralOptionsHandler = true // "OPTIONS *" is refused like every target that is no path
	s.ConnContext = gather.With
	s.Protocols = new(http.Protocols)
	s.Protocols.SetHTTP1(true)
	s.Protocols.SetHTTP2(true)
	s.HTTP2 = &http.HTTP2Config{
		MaxConcurrentStreams:          MaxStreams,
		MaxReadFrameSize:              FrameSize,
		MaxReceiveBufferPerStream:     StreamWindow,
		MaxReceiveBufferPerConnection: ConnWindow,
		SendPingTimeout:               PingAfter,
		PingTimeout:                   PingTimeout,
		WriteByteTimeout:              BodyIdle,
	}
}
