package handover

import (
	"fmt"
	"net"
)

// Listener makes a listener of the file of that name if it listens where the configuration says; "" is anywhere. It returns nil
// without an error when there is none, or one that listens elsewhere.
func (f Files) Listener(name, want string) (net.Listener, error) {
	file := f[name]
	if file == nil {
		return nil, nil
	}
	l, err := net.FileListener(file)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	if want != "" && !ListensAt(l.Addr(), want) {
		return nil, l.Close()
	}
	return l, nil
}

// Socket makes the hand-over socket of its file: what Listen opened in another process. It returns nil without an error when there
// is none.
func (f Files) Socket(name string) (*net.UnixListener, error) {
	l, err := f.Listener(name, "")
	if l == nil || err != nil {
		return nil, err
	}
	u, ok := l.(*net.UnixListener)
	if !ok {
		_ = l.Close()
		return nil, fmt.Errorf("%s: not a Unix socket", name)
	}
	return u, nil
}

// ListensAt compares an address with one of the configuration, in which port 0 is any and an empty host is all.
func ListensAt(at net.Addr, want string) bool {
	host, port, err := net.SplitHostPort(want)
	if err != nil {
		return false
	}
	tcp, ok := at.(*net.TCPAddr)
	if !ok || port != "0" && port != fmt.Sprint(tcp.Port) {
		return false
	}
	if ip := net.ParseIP(host); ip != nil {
		return ip.Equal(tcp.IP)
	}
	return host != "" || tcp.IP.IsUnspecified()
}
