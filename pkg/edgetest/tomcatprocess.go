package edgetest

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

// tomcatProcess is one run of scripts/tomcat.sh, which becomes Tomcat.
type tomcatProcess struct {
	pid   int
	up    chan struct{} // closed when Tomcat says that it is up
	ended chan struct{} // closed when it has ended

	mu   sync.Mutex // guards text
	text strings.Builder
	once sync.Once
}

// runTomcat starts the script. The thread that forks waits for it: the kernel ends Tomcat when that thread ends, that is,
// when this program does, however it does.
func runTomcat(script string, env []string) (*tomcatProcess, error) {
	p := &tomcatProcess{up: make(chan struct{}), ended: make(chan struct{})}
	cmd := exec.Command(script, "run")
	cmd.Env = env
	cmd.Stdout, cmd.Stderr = p, p
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	started := make(chan error, 1)
	go func() {
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		defer close(p.ended)
		err := cmd.Start()
		if err == nil {
			p.pid = cmd.Process.Pid
		}
		started <- err
		if err == nil {
			_ = cmd.Wait()
		}
	}()
	return p, <-started
}

// Write takes Tomcat's log.
func (p *tomcatProcess) Write(b []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.text.Write(b)
	if strings.Contains(p.text.String(), "Server startup in") {
		p.once.Do(func() { close(p.up) })
	}
	return len(b), nil
}

func (p *tomcatProcess) said() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.text.String()
}

func (p *tomcatProcess) kill() {
	select {
	case <-p.ended:
		return
	default:
	}
	_ = syscall.Kill(p.pid, syscall.SIGKILL)
	<-p.ended
}

func (p *tomcatProcess) stop() {
	select {
	case <-p.ended:
		return
	default:
	}
	_ = syscall.Kill(p.pid, syscall.SIGTERM)
	select {
	case <-p.ended:
	case <-time.After(10 * time.Second):
		p.kill()
	}
}

const sharedPrefix = "sallyport-tomcat-"

// sharedDir makes the shared instance's directory and removes those that earlier test binaries left behind: nothing runs
// at the end of a test binary that could remove its own.
func sharedDir() (string, error) {
	left, err := filepath.Glob(filepath.Join(os.TempDir(), sharedPrefix+"*"))
	if err != nil {
		return "", err
	}
	for _, dir := range left {
		pid, _, _ := strings.Cut(strings.TrimPrefix(filepath.Base(dir), sharedPrefix), "-")
		if n, err := strconv.Atoi(pid); err == nil && errors.Is(syscall.Kill(n, 0), syscall.ESRCH) {
			_ = os.RemoveAll(dir)
		}
	}
	return os.MkdirTemp("", sharedPrefix+strconv.Itoa(os.Getpid())+"-")
}
