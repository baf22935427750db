// Package handover owns how a running process gives its place to a successor on the same machine: what the two say to each
// other over a Unix socket, who may speak there, and the open files (sockets, a lock) that go across (SCM_RIGHTS, unix(7)).
// What the files are, and what serving means, its users know.
//
//	successor                                running process (Host)
//	hello{version, software, pid}          →
//	                                       ← offer{software, pid, files…}
//	… the successor gets ready; if it fails: no{why}, or its end; then nothing has happened
//	ready                                  →   stops accepting and reading
//	                                       ← yours
//	… the successor serves                     … the other drains and ends
//
// Whoever says restart instead of hello asks the running process to start a successor from its own binary, and hears done or
// no{why}. A host that does not agree says no{why} before it closes; a connection that ends without a word means that the
// process is gone, and what it gave is the successor's.
package handover

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"slices"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Version is the protocol's; a host that does not know a successor's refuses it, and the way out is a plain restart.
const Version = 1

// The limits of one message, and of waiting for the first one.
const (
	maxMessage = 16 << 10
	maxFiles   = 64
	helloLimit = 5 * time.Second
	// ReadyLimit is how long a successor may take from offer to ready: a schema upgrade of a large store is in it.
	ReadyLimit = 2 * time.Minute
)

// Kinds of message.
const (
	kindHello   = "hello"
	kindOffer   = "offer"
	kindReady   = "ready"
	kindYours   = "yours"
	kindNo      = "no"
	kindRestart = "restart"
	kindDone    = "done"
)

// message is one datagram of the conversation: JSON, and beside it the files that it names.
type message struct {
	Version  int      `json:"version"`
	Kind     string   `json:"kind"`
	Software string   `json:"software,omitempty"`
	PID      int      `json:"pid,omitempty"`
	Why      string   `json:"why,omitempty"`
	Files    []string `json:"files,omitempty"`
}

// parse reads a message; count is how many files came with it.
func parse(text []byte, count int) (message, error) {
	var m message
	if err := json.Unmarshal(text, &m); err != nil {
		return m, errors.New("hand-over: a message that is none")
	}
	switch {
	case m.Version != Version:
		return m, fmt.Errorf("hand-over: version %d of the protocol, %d is known here", m.Version, Version)
	case !slices.Contains([]string{kindHello, kindOffer, kindReady, kindYours, kindNo, kindRestart, kindDone}, m.Kind):
		return m, errors.New("hand-over: a message of an unknown kind")
	case len(m.Files) != count:
		return m, fmt.Errorf("hand-over: %d files came with the names of %d", count, len(m.Files))
	}
	return m, nil
}

// Files are open files by name. Who holds them closes them.
type Files map[string]*os.File

// Close closes all of them.
func (f Files) Close() {
	for _, one := range f {
		_ = one.Close()
	}
}

// conn speaks messages over a SOCK_SEQPACKET connection: each arrives whole or not at all.
type conn struct{ *net.UnixConn }

func (c conn) send(m message, files Files) error {
	m.Version = Version
	for name := range files {
		m.Files = append(m.Files, name)
	}
	slices.Sort(m.Files)
	text, err := json.Marshal(m)
	if err != nil {
		return fmt.Errorf("hand-over: %w", err)
	}
	return withDescriptors(m.Files, files, func(fds []int) error {
		var rights []byte
		if len(fds) > 0 {
			rights = unix.UnixRights(fds...)
		}
		if _, _, err := c.WriteMsgUnix(text, rights, nil); err != nil {
			return fmt.Errorf("hand-over: %w", err)
		}
		return nil
	})
}

// withDescriptors calls f while every descriptor is sure to stay open. It goes through SyscallConn because File.Fd could
// change the mode of a description that both processes share.
func withDescriptors(names []string, files Files, f func(fds []int) error) error {
	fds := make([]int, 0, len(names))
	var next func(i int) error
	next = func(i int) error {
		if i == len(names) {
			return f(fds)
		}
		raw, err := files[names[i]].SyscallConn()
		if err != nil {
			return fmt.Errorf("hand-over: %s: %w", names[i], err)
		}
		var inner error
		err = raw.Control(func(fd uintptr) {
			fds = append(fds, int(fd))
			inner = next(i + 1)
		})
		return errors.Join(err, inner)
	}
	return next(0)
}

// receive reads the next message and what came with it; io.EOF or another error of the connection when there is none.
func (c conn) receive() (message, Files, error) {
	text, rights := make([]byte, maxMessage), make([]byte, unix.CmsgSpace(maxFiles*4))
	n, oobn, flags, _, err := c.ReadMsgUnix(text, rights)
	if errors.Is(err, io.EOF) {
		return message{}, nil, errGone
	}
	if err != nil {
		return message{}, nil, fmt.Errorf("hand-over: %w", err)
	}
	fds, err := descriptors(rights[:oobn])
	open := make([]*os.File, len(fds))
	for i, fd := range fds {
		unix.CloseOnExec(fd)
		open[i] = os.NewFile(uintptr(fd), "handed over")
	}
	var m message
	if err == nil && flags&(unix.MSG_TRUNC|unix.MSG_CTRUNC) != 0 {
		err = errors.New("hand-over: a message that is too large")
	}
	if err == nil {
		m, err = parse(text[:n], len(fds))
	}
	files := Files{}
	for i, f := range open {
		if err == nil {
			files[m.Files[i]] = f
		}
	}
	if err == nil && len(files) != len(open) {
		err = errors.New("hand-over: two files of one name")
	}
	if err != nil {
		for _, f := range open { // not files, which has one of two with a name
			_ = f.Close()
		}
		return message{}, nil, err
	}
	return m, files, nil
}

// errGone is a peer that ended without a word.
var errGone = errors.New("hand-over: the other process is gone")

func descriptors(rights []byte) (fds []int, err error) {
	if len(rights) == 0 {
		return nil, nil
	}
	all, err := unix.ParseSocketControlMessage(rights)
	if err != nil {
		return nil, fmt.Errorf("hand-over: %w", err)
	}
	for _, one := range all {
		if one.Header.Level != unix.SOL_SOCKET || one.Header.Type != unix.SCM_RIGHTS {
			continue
		}
		some, err := unix.ParseUnixRights(&one)
		if err != nil {
			return fds, fmt.Errorf("hand-over: %w", err)
		}
		fds = append(fds, some...)
	}
	return fds, nil
}

// Descriptor is what net and os make of a file descriptor.
type Descriptor interface {
	SyscallConn() (syscall.RawConn, error)
}

// Copy duplicates an open socket or file, for a message or for another owner. Both share what the description holds.
func Copy(of Descriptor, name string) (*os.File, error) {
	raw, err := of.SyscallConn()
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	var fd int
	var errDup error
	if err := raw.Control(func(from uintptr) { fd, errDup = unix.FcntlInt(from, unix.F_DUPFD_CLOEXEC, 0) }); err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	if errDup != nil {
		return nil, fmt.Errorf("%s: %w", name, errDup)
	}
	return os.NewFile(uintptr(fd), name), nil
}
