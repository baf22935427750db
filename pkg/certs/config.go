package certs

import (
	"crypto/tls"
	"slices"
	"strings"
)

// browsers are the protocols offered where TLSConfig is asked for none.
var browsers = [...]string{"h2", "http/1.1"}

// base is what every configuration of ours starts from: TLS 1.2 with forward secrecy and authenticated encryption only
// (RFC 9325 §4.2), or TLS 1.3.
func base() *tls.Config {
	return &tls.Config{
		MinVersion: tls.VersionTLS12,
		CipherSuites: []uint16{
			tls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256, tls.TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256,
			tls.TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384, tls.TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384,
			tls.TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256, tls.TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256,
		},
	}
}

// TLSConfig returns a configuration for a listener that offers these ALPN protocols; none means h2 and http/1.1. Each call
// has ticket keys of its own. Only listeners for browsers give tickets: links prove who they are on a fresh handshake.
func (m *Manager) TLSConfig(protocols ...string) *tls.Config {
	c := base()
	c.GetCertificate = m.GetCertificate
	if len(protocols) > 0 {
		c.NextProtos = slices.Clone(protocols)
		c.SessionTicketsDisabled = true
		return c
	}
	c.NextProtos = browsers[:]
	m.bindTickets(c)
	return c
}

// bindTickets ties a session ticket to the name it was given for. crypto/tls resumes without asking for a certificate, so
// that a ticket of one host would otherwise open a handshake for another, or for one that is gone.
func (m *Manager) bindTickets(c *tls.Config) {
	c.WrapSession = func(cs tls.ConnectionState, ss *tls.SessionState) ([]byte, error) {
		ss.Extra = append(ss.Extra, ticketName(cs.ServerName))
		return c.EncryptTicket(cs, ss)
	}
	c.UnwrapSession = func(identity []byte, cs tls.ConnectionState) (*tls.SessionState, error) {
		ss, err := c.DecryptTicket(identity, cs)
		if err != nil || ss == nil {
			return nil, err
		}
		name := ticketName(cs.ServerName)
		same := slices.ContainsFunc(ss.Extra, func(e []byte) bool { return string(e) == string(name) })
		if !same || !m.cfg.HostAllowed(strings.ToLower(cs.ServerName)) {
			return nil, nil
		}
		return ss, nil
	}
}

func ticketName(serverName string) []byte {
	return []byte("sallyport host " + strings.ToLower(serverName))
}
