package adminapi_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/sallyport-dev/sallyport/pkg/adminapi"
	"github.com/sallyport-dev/sallyport/pkg/fault"
	adminv1 "github.com/sallyport-dev/sallyport/proto/admin/v1"
)

// nobody is a user that is neither root nor the edge's.
const nobody = 65534

// callAs names the socket that this binary, started again, calls as nobody.
const callAs = "ADMINAPI_TEST_SOCKET"

func TestMain(m *testing.M) {
	if socket := os.Getenv(callAs); socket != "" {
		if err := errors.Join(syscall.Setgroups(nil), syscall.Setgid(nobody), syscall.Setuid(nobody)); err != nil {
			fmt.Println("cannot become another user:", err)
			os.Exit(1)
		}
		_, err := adminapi.Dial(socket).ListTenants(context.Background(), &adminv1.ListTenantsRequest{})
		fmt.Println(adminapi.Explain(socket, err))
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// asNobody returns what another user is told who calls the socket.
func asNobody(t *testing.T, socket string) string {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("needs root, to become another user")
	}
	for dir := filepath.Dir(socket); dir != filepath.Clean(os.TempDir()) && dir != "/"; dir = filepath.Dir(dir) {
		if err := os.Chmod(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	child := exec.CommandContext(t.Context(), os.Args[0])
	child.Env = append(os.Environ(), callAs+"="+socket)
	out, err := child.CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	return strings.TrimSpace(string(out))
}

func TestSocketIsForItsOwnerAlone(t *testing.T) {
	w := serve(t)
	info, err := os.Stat(w.socket)
	if err != nil {
		t.Fatal(err)
	}
	if got := info.Mode(); got != os.ModeSocket|0o600 {
		t.Errorf("mode %v, want a socket with 0600", got)
	}
	if left, _ := filepath.Glob(filepath.Join(filepath.Dir(w.socket), ".*")); len(left) != 0 {
		t.Errorf("left behind: %v", left)
	}
	if _, err := w.ListTenants(t.Context(), &adminv1.ListTenantsRequest{}); err != nil {
		t.Errorf("its own user is refused: %v", err)
	}
}

func TestAnotherUserCannotOpenTheSocket(t *testing.T) {
	w := serve(t)
	if got := asNobody(t, w.socket); !strings.Contains(got, "run this as root or as the edge's own user") {
		t.Errorf("another user is told %q", got)
	}
}

func TestAnotherUserIsRefusedEvenWhenTheModeIsWrong(t *testing.T) {
	w := serve(t)
	if err := os.Chmod(w.socket, 0o666); err != nil {
		t.Fatal(err)
	}
	if got := asNobody(t, w.socket); got != "only root and the edge's own user may administer it" {
		t.Errorf("another user is told %q", got)
	}
}

func TestASecondEdgeIsRefusedAndTheFirstGoesOn(t *testing.T) {
	w := serve(t)
	if l, err := adminapi.Listen(t.Context(), w.socket); err == nil || !strings.Contains(err.Error(), "another edge answers there") {
		t.Errorf("a second edge: %v %v", l, err)
	}
	if _, err := w.ListTenants(t.Context(), &adminv1.ListTenantsRequest{}); err != nil {
		t.Errorf("the first edge lost its socket: %v", err)
	}
}

func TestASocketThatADeadEdgeLeftIsReplaced(t *testing.T) {
	path := filepath.Join(t.TempDir(), "admin.sock")
	for range 2 { // what Listen makes stays when it is closed, as after kill -9
		l, err := adminapi.Listen(t.Context(), path)
		if err != nil {
			t.Fatal(err)
		}
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
	}
	_, err := adminapi.Dial(path).ListTenants(t.Context(), &adminv1.ListTenantsRequest{})
	if err := adminapi.Explain(path, err); !fault.Is(err, fault.Unavailable) || !strings.Contains(err.Error(), "is it running") {
		t.Errorf("a socket without an edge: %v", err)
	}
}

func TestListenSaysWhatIsWrongWithThePath(t *testing.T) {
	for name, path := range map[string]string{
		"no directory": filepath.Join(t.TempDir(), "none", "admin.sock"),
		"too long":     filepath.Join(t.TempDir(), strings.Repeat("x", 120)),
	} {
		l, err := adminapi.Listen(t.Context(), path)
		if err == nil {
			_ = l.Close()
		}
		if err == nil || !strings.HasPrefix(err.Error(), "admin socket") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestWordsForWhoCannotReachTheEdge(t *testing.T) {
	path := filepath.Join(t.TempDir(), "admin.sock")
	_, err := adminapi.Dial(path).ListTenants(t.Context(), &adminv1.ListTenantsRequest{})
	if err := adminapi.Explain(path, err); !fault.Is(err, fault.Unavailable) || !strings.Contains(err.Error(), path) {
		t.Errorf("no socket: %v", err)
	}
	if err := adminapi.Explain(path, nil); err != nil {
		t.Errorf("no error became one: %v", err)
	}
	plain := os.ErrNotExist // of a file, say, that a command was to write
	if err := adminapi.Explain(path, plain); !errors.Is(err, plain) {
		t.Errorf("an error that is not a call's became %v", err)
	}
}

func TestMessagesHaveALimit(t *testing.T) {
	w := serve(t)
	_, err := w.CreateTenant(t.Context(), &adminv1.CreateTenantRequest{Id: "maple", Name: strings.Repeat("x", 2<<20)})
	if err := adminapi.Explain(w.socket, err); !fault.Is(err, fault.Exhausted) {
		t.Errorf("2 MiB of name: %v", err)
	}
}

func TestCallsUnderWayAreFinishedAtTheEnd(t *testing.T) {
	w := serve(t)
	if _, err := w.CreateTenant(t.Context(), &adminv1.CreateTenantRequest{Id: "maple"}); err != nil {
		t.Fatal(err)
	}
	w.post.entered, w.post.proceed = make(chan struct{}), make(chan struct{})
	called, stopped := make(chan error, 1), make(chan error, 1)
	go func() {
		_, err := w.AddUser(t.Context(), &adminv1.AddUserRequest{Tenant: "maple", Email: "dr.lee@maple.example"})
		called <- err
	}()
	<-w.post.entered
	go func() { stopped <- w.stop() }()
	for closed := false; !closed; { // the listener is closed first: from then on Serve waits for the call alone
		conn, err := net.Dial("unix", w.socket)
		if closed = err != nil; !closed {
			_ = conn.Close()
		}
	}
	select {
	case err := <-stopped:
		t.Fatalf("Serve returned (%v) while a call used the store", err)
	case <-time.After(50 * time.Millisecond): // what must not happen cannot be waited for
	}
	close(w.post.proceed)
	if err := <-called; err != nil {
		t.Errorf("the call under way: %v", err)
	}
	if err := <-stopped; err != nil {
		t.Errorf("Serve: %v", err)
	}
}
