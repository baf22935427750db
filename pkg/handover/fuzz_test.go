package handover

import (
	"net"
	"os"
	"testing"

	"golang.org/x/sys/unix"
)

// FuzzMessage: what is taken for a message has this protocol's version and a name for each file.
func FuzzMessage(f *testing.F) {
	f.Add([]byte(`{"version":1,"kind":"offer","files":["a"]}`), 1)
	f.Add([]byte(`{}`), 0)
	f.Fuzz(func(t *testing.T, text []byte, count int) {
		if m, err := parse(text, count); err == nil && (m.Version != Version || len(m.Files) != count) {
			t.Errorf("%+v with %d files", m, count)
		}
	})
}

// ends are two ends of a hand-over's connection.
func ends(t *testing.T) (a, b conn) {
	t.Helper()
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	both := make([]conn, 2)
	for i, fd := range fds {
		file := os.NewFile(uintptr(fd), "end")
		c, err := net.FileConn(file)
		if err != nil {
			t.Fatal(err)
		}
		_ = file.Close()
		both[i] = conn{c.(*net.UnixConn)}
	}
	return both[0], both[1]
}

// FuzzReceive: whatever a peer sends, and however many files come with it, it is refused or understood, and no file stays open that
// nobody knows of.
func FuzzReceive(f *testing.F) {
	f.Add([]byte(`{"version":1,"kind":"offer","files":["tcp","udp"]}`), uint8(2))
	f.Add([]byte(`{"version":1,"kind":"offer","files":["tcp","tcp"]}`), uint8(2))
	f.Add([]byte(`{"version":1,"kind":"hello","pid":7}`), uint8(0))
	f.Add([]byte(`{"version":1,"kind":"hello"}`), uint8(3))
	f.Add([]byte(`{"version":2,"kind":"offer","files":["tcp"]}`), uint8(1))
	f.Add([]byte("{"), uint8(70))
	f.Add(make([]byte, maxMessage+1), uint8(1))
	f.Fuzz(func(t *testing.T, text []byte, count uint8) {
		if len(text) == 0 || len(text) > 2*maxMessage {
			return // an empty message cannot be told from an end
		}
		count %= maxFiles + 8
		reader, writer, err := os.Pipe()
		if err != nil {
			t.Fatal(err)
		}
		defer reader.Close()
		from, to := ends(t)
		defer from.Close()
		defer to.Close()
		fds := make([]int, count)
		for i := range fds {
			if fds[i], err = unix.FcntlInt(writer.Fd(), unix.F_DUPFD_CLOEXEC, 0); err != nil {
				t.Fatal(err)
			}
		}
		_, _, err = from.WriteMsgUnix(text, unix.UnixRights(fds...), nil)
		for _, fd := range fds {
			_ = unix.Close(fd)
		}
		_ = writer.Close()
		if err != nil {
			t.Fatal(err)
		}
		m, files, err := to.receive()
		if err == nil && (m.Version != Version || len(files) != int(count) || len(m.Files) != int(count)) {
			t.Errorf("%d files: %+v, %d", count, m, len(files))
		}
		files.Close()
		// The pipe ends when nobody holds its other end any more: a file that was forgotten would keep the reader waiting.
		end := int(reader.Fd()) // once: each call makes it wait again
		if err := unix.SetNonblock(end, true); err != nil {
			t.Fatal(err)
		}
		if n, err := unix.Read(end, make([]byte, 1)); n != 0 || err != nil {
			t.Errorf("a file is open still: %d %v", n, err)
		}
	})
}
