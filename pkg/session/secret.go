package session

import (
	"crypto/rand"
	"encoding/base64"
	"net/netip"
)

// secretBytes is the size of references, handoff codes and flow cookies: 256 bits.
const secretBytes = 32

// NewSecret returns 256 random bits as base64url text.
func NewSecret() string {
	b := make([]byte, secretBytes)
	_, _ = rand.Read(b) // never fails: crypto/rand ends the process instead
	return base64.RawURLEncoding.EncodeToString(b)
}

// wellFormed keeps everything that NewSecret cannot have made away from the store.
func wellFormed(s string) bool {
	b, err := base64.RawURLEncoding.Strict().DecodeString(s)
	return err == nil && len(b) == secretBytes
}

// SourceOf returns the network that stands for a client in throttles and lists: the IPv4 address, or the /64 of an IPv6
// address, because one household or ward has a whole /64. remote is http.Request.RemoteAddr; "" when it is none.
func SourceOf(remote string) string {
	ap, err := netip.ParseAddrPort(remote)
	if err != nil {
		return ""
	}
	addr := ap.Addr().Unmap().WithZone("")
	if addr.Is4() {
		return addr.String()
	}
	return netip.PrefixFrom(addr, 64).Masked().String()
}
