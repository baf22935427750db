package pgtest

import (
	"bytes"
	"encoding/binary"
	"io"
	"net"
	"net/url"
	"path/filepath"
	"strconv"
	"sync"
	"testing"
	"time"
)

// maxMessage bounds a message of the protocol that is relayed, bytes.
const maxMessage = 1 << 24

// Relay stands between a client and a server and resets the connection at a chosen message from the client, holds back
// everything, or is slow. It counts the messages of the protocol (PostgreSQL manual, "Message Formats"), over all connections.
type Relay struct {
	server string // Unix socket

	mu     sync.Mutex // guards what follows
	armed  bool
	left   int  // messages that still pass
	after  bool // the last one passes too, and only its answer is lost
	stay   bool // after the cut there is no way through
	off    bool
	seen   int
	held   chan struct{}
	delay  time.Duration
	needle []byte // in a transaction at whose commit to cut; nil: none
}

// Hold lets no message pass, or lets them go on, late ones too: a way to the server that swallows everything and says nothing.
func (r *Relay) Hold(hold bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	switch {
	case hold && r.held == nil:
		r.held = make(chan struct{})
	case !hold && r.held != nil:
		close(r.held)
		r.held = nil
	}
}

// Delay has each message of the client wait.
func (r *Relay) Delay(d time.Duration) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.delay = d
}

// wait returns when a message may pass.
func (r *Relay) wait() {
	r.mu.Lock()
	held, delay := r.held, r.delay
	r.mu.Unlock()
	if held != nil {
		<-held
	}
	if delay > 0 {
		<-time.After(delay)
	}
}

// Through returns a relay and the URL of the same database through it. The relay ends with the test.
func Through(t testing.TB, database string) (*Relay, string) {
	t.Helper()
	u, err := url.Parse(database)
	if err != nil {
		t.Fatal(err)
	}
	query := u.Query()
	r := &Relay{server: filepath.Join(query.Get("host"), ".s.PGSQL."+query.Get("port"))}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var all sync.WaitGroup
	all.Go(func() {
		for {
			client, err := listener.Accept()
			if err != nil {
				return
			}
			all.Go(func() { r.relay(client.(*net.TCPConn)) })
		}
	})
	t.Cleanup(func() {
		_ = listener.Close()
		r.Hold(false)
	})
	address := listener.Addr().(*net.TCPAddr)
	query.Set("host", address.IP.String())
	query.Set("port", strconv.Itoa(address.Port))
	u.RawQuery = query.Encode()
	return r, u.String()
}

// CutAt resets the connection at the n-th message from now, counted from 1: before the server has it, or, with after set, once
// the server has it and before the client has the answer. It cuts once.
func (r *Relay) CutAt(n int, after bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.armed, r.left, r.after = true, n, after
}

// CutOffAt is CutAt, once the server has the message, after which no connection gets through until Restore.
func (r *Relay) CutOffAt(n int) {
	r.CutAt(n, true)
	r.mu.Lock()
	defer r.mu.Unlock()
	r.stay = true
}

// CutOffCommitOf is CutOffAt the commit of the next transaction that sends the needle: once the server has the commit, or before.
func (r *Relay) CutOffCommitOf(needle string, after bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.needle, r.after = []byte(needle), after
}

// Waits reports whether no transaction with the needle has come to its commit yet.
func (r *Relay) Waits() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.needle != nil
}

// commits says of one message whether it is the commit at which to cut; carries is whether its transaction has sent the needle.
func (r *Relay) commits(message []byte, carries *bool) (cut, pass bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	switch {
	case r.needle == nil || len(message) == 0:
	case message[0] == 'Q' && bytes.Contains(message, []byte("COMMIT")):
		if *carries {
			r.needle, r.off = nil, true
			return true, r.after
		}
	case message[0] == 'Q':
		*carries = false
	case bytes.Contains(message, r.needle):
		*carries = true
	}
	return false, false
}

// Restore lets connections through again.
func (r *Relay) Restore() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.stay, r.off = false, false
}

// Seen is how many messages have come from clients so far.
func (r *Relay) Seen() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.seen
}

// Pending reports whether the message at which to cut has not come yet, and lets all pass from now on.
func (r *Relay) Pending() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	pending := r.armed
	r.armed = false
	return pending
}

// next says of one message whether it is to pass, and whether the connection is to be cut.
func (r *Relay) next() (pass, cut bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.seen++
	if !r.armed {
		return !r.off, r.off
	}
	if r.left--; r.left > 0 {
		return true, false
	}
	r.armed, r.off = false, r.stay
	return r.after, true
}

func (r *Relay) relay(client *net.TCPConn) {
	server, err := net.Dial("unix", r.server)
	if err != nil {
		_ = client.Close()
		return
	}
	// What the server says after a cut is lost with the connection.
	defer func() { _ = server.Close() }()
	defer func() { _ = client.Close() }()
	go func() {
		_, _ = io.Copy(client, server)
		_ = client.Close()
	}()
	carries := false
	header := 4 // the first message has a length and no type
	for {
		message, err := readMessage(client, header)
		if err != nil {
			return
		}
		r.wait()
		pass, cut := r.next()
		if at, through := r.commits(message, &carries); at {
			pass, cut = through, true
		}
		if cut {
			_ = client.SetLinger(0) // a reset, and nothing of the answer
			_ = client.Close()
		}
		if pass {
			if _, err := server.Write(message); err != nil {
				return
			}
		}
		if cut {
			return
		}
		header = 5
	}
}

// readMessage reads one message of the client: a type, but for the first, a length that counts itself, and the rest.
func readMessage(from io.Reader, header int) ([]byte, error) {
	message := make([]byte, header)
	if _, err := io.ReadFull(from, message); err != nil {
		return nil, err
	}
	length := int(binary.BigEndian.Uint32(message[header-4:]))
	if length < 4 || length > maxMessage {
		return nil, io.ErrUnexpectedEOF
	}
	message = append(message, make([]byte, length-4)...)
	_, err := io.ReadFull(from, message[header:])
	return message, err
}
