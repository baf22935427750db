package edgetest_test

import (
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/sallyport-dev/sallyport/pkg/edgetest"
)

// back is how soon everything must work again once what was killed runs again.
const back = 15 * time.Second

// Whatever dies in the middle of an upload, nobody is told that it went well, the application does not take half a file for
// a whole one, and all is well soon after.
func TestKilledInMidUpload(t *testing.T) {
	tomcat := edgetest.StartTomcat(t, edgetest.TomcatOptions{Own: true})
	w := edgetest.Start(t, edgetest.Options{Origin: tomcat.URL, Pin: tomcat.Pin})
	for _, c := range []struct {
		name          string
		kill, restart func()
	}{
		{"connector", w.Connector.Kill, w.Connector.Start},
		{"edge", w.Edge.Kill, w.Edge.Start},
		{"application", func() { tomcat.Kill(t) }, func() { tomcat.Restart(t) }},
	} {
		t.Run(c.name, func(t *testing.T) {
			d := atWork(t, w)
			uploads := d.count("uploads")
			body, send := io.Pipe()
			req, err := http.NewRequestWithContext(d.ctx(), http.MethodPost, w.URL("/oscar/documentManager/documentUpload.do"), body)
			if err != nil {
				t.Fatal(err)
			}
			const boundary = "boundary"
			req.Header.Set("Content-Type", "multipart/form-data; boundary="+boundary)
			req.Header.Set("Sec-Fetch-Site", "same-origin")
			type answer struct {
				resp *http.Response
				err  error
			}
			answered := make(chan answer, 1)
			go func() {
				resp, err := d.Client.Do(req)
				_ = body.CloseWithError(io.ErrClosedPipe)
				answered <- answer{resp, err}
			}()
			fmt.Fprintf(send, "--%s\r\nContent-Disposition: form-data; name=\"docFile\"; filename=\"scan.pdf\"\r\n\r\n", boundary)
			if _, err := io.Copy(send, patterned(2, 4<<20)); err != nil {
				t.Fatalf("the first half: %v", err)
			}
			edgetest.Eventually(t, "the application to have begun", func() error {
				if d.count("uploadsBegun") <= uploads {
					return fmt.Errorf("not begun")
				}
				return nil
			})
			c.kill()
			// The rest is offered; how much is taken before the fault shows does not matter.
			_, _ = io.Copy(send, patterned(3, 4<<20))
			fmt.Fprintf(send, "\r\n--%s--\r\n", boundary)
			_ = send.Close()
			select {
			case got := <-answered:
				if got.err == nil {
					page, _ := edgetest.ReadAll(got.resp)
					if got.resp.StatusCode < 500 {
						t.Errorf("answered %s: %.300s", got.resp.Status, page)
					}
				}
			case <-time.After(edgetest.Patience):
				t.Fatal("no answer and no error")
			}
			c.restart()
			began := time.Now()
			var d2 doctor
			w.Wait("the edge to answer", func() error { _, err := w.Try("tenant", "list"); return err })
			w.WaitForLink()
			edgetest.Eventually(t, "the application through the tunnel", func() error {
				resp, err := d.Navigate(d.ctx(), w.URL("/oscar/index.jsp"))
				if err != nil {
					return err
				}
				if page, _ := edgetest.ReadAll(resp); resp.StatusCode != http.StatusOK {
					return fmt.Errorf("%s: %.200s", resp.Status, page)
				}
				return nil
			})
			if took := time.Since(began); took > back {
				t.Errorf("back after %s", took)
			}
			d2 = atWork(t, w)
			if now := d2.count("uploads"); now > uploads {
				t.Errorf("the application counts %d whole uploads, before %d", now, uploads)
			}
			if got, want, err := d2.upload(1 << 20); err != nil || got != want {
				t.Errorf("an upload afterwards: %s, want %s, %v", got, want, err)
			}
		})
	}
}

// count reads one of the application's counters.
func (d doctor) count(name string) int {
	d.t.Helper()
	var counts map[string]int
	if text := d.open("/oscar/wire/counts"); json.Unmarshal([]byte(text), &counts) != nil {
		d.t.Fatalf("counters: %q", text)
	}
	return counts[name]
}

// On the clinic's side nothing listens but loopback, and nobody unknown gets an answer.
func TestTheConnectorIsNotThere(t *testing.T) {
	w, _ := oscarWorld(t, false)
	inodes := sockets(t, w.Connector.PID())
	for _, file := range []string{"tcp", "tcp6"} {
		for _, s := range listening(t, file, inodes) {
			if !s.IP.IsLoopback() {
				t.Errorf("listens on %s", s)
			}
		}
	}
	udp := udpPorts(t, inodes)
	if len(udp) == 0 {
		t.Fatal("no UDP socket: the link is not QUIC, and this test shows nothing")
	}
	for _, port := range udp {
		conn, err := net.Dial("udp", fmt.Sprintf("127.0.0.1:%d", port))
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		for _, datagram := range unsolicited() {
			if _, err := conn.Write(datagram); err != nil {
				t.Fatal(err)
			}
		}
		if err := conn.SetReadDeadline(time.Now().Add(time.Second)); err != nil {
			t.Fatal(err)
		}
		if n, err := conn.Read(make([]byte, 2048)); err == nil {
			t.Errorf("UDP port %d answered a stranger with %d bytes", port, n)
		}
	}
}

// unsolicited are datagrams that a QUIC endpoint could be tempted to answer: an unknown version, a version-1 Initial, a
// short header, noise.
func unsolicited() [][]byte {
	long := append([]byte{0xc0, 0xfa, 0xce, 0xb0, 0x0c, 8, 1, 2, 3, 4, 5, 6, 7, 8, 8, 1, 2, 3, 4, 5, 6, 7, 8}, make([]byte, 1200)...)
	initial := append([]byte{0xc3, 0, 0, 0, 1, 8, 1, 2, 3, 4, 5, 6, 7, 8, 0, 0, 0x44, 0x9e}, make([]byte, 1200)...)
	short := append([]byte{0x40}, make([]byte, 100)...)
	return [][]byte{long, initial, short, []byte("hello"), {0}}
}

// sockets lists the inodes of a process's sockets.
func sockets(t *testing.T, pid int) map[string]bool {
	t.Helper()
	links, err := filepath.Glob(fmt.Sprintf("/proc/%d/fd/*", pid))
	if err != nil || len(links) == 0 {
		t.Fatalf("the process's files: %v", err)
	}
	inodes := map[string]bool{}
	for _, l := range links {
		if to, err := os.Readlink(l); err == nil && strings.HasPrefix(to, "socket:[") {
			inodes[strings.Trim(strings.TrimPrefix(to, "socket:"), "[]")] = true
		}
	}
	return inodes
}

// listening reads /proc/net/tcp: state 0A is LISTEN.
func listening(t *testing.T, file string, inodes map[string]bool) []*net.TCPAddr {
	t.Helper()
	var out []*net.TCPAddr
	for _, f := range procNet(t, file) {
		if f[3] == "0A" && inodes[f[9]] {
			out = append(out, hexAddr(t, f[1]))
		}
	}
	return out
}

func udpPorts(t *testing.T, inodes map[string]bool) []int {
	t.Helper()
	var out []int
	for _, file := range []string{"udp", "udp6"} {
		for _, f := range procNet(t, file) {
			if inodes[f[9]] {
				out = append(out, hexAddr(t, f[1]).Port)
			}
		}
	}
	return out
}

func procNet(t *testing.T, file string) [][]string {
	t.Helper()
	text, err := os.ReadFile("/proc/net/" + file)
	if err != nil {
		t.Fatal(err)
	}
	var rows [][]string
	for line := range strings.Lines(string(text)) {
		if f := strings.Fields(line); len(f) > 9 && f[0] != "sl" {
			rows = append(rows, f)
		}
	}
	return rows
}

// hexAddr reads an address as the kernel prints it: words of four bytes, low byte first.
func hexAddr(t *testing.T, s string) *net.TCPAddr {
	t.Helper()
	text, portText, _ := strings.Cut(s, ":")
	var port int
	if _, err := fmt.Sscanf(portText, "%X", &port); err != nil {
		t.Fatal(err)
	}
	ip := make(net.IP, len(text)/2)
	for i := range ip {
		word := i / 4 * 4
		if _, err := fmt.Sscanf(text[2*i:2*i+2], "%02X", &ip[word+3-i%4]); err != nil {
			t.Fatal(err)
		}
	}
	return &net.TCPAddr{IP: ip, Port: port}
}
