package run

import (
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// A program that asked for slack has it in all its threads, and is the same process with the same arguments and open files.
func TestEveryThreadHasSlack(t *testing.T) {
	if os.Getenv("SALLYPORT_TEST_SLACK") != "" {
		beSlack()
	}
	file, err := os.CreateTemp(t.TempDir(), "kept")
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	if _, err := file.WriteString("kept"); err != nil {
		t.Fatal(err)
	}
	exact(t)
	cmd := exec.Command(os.Args[0], "-test.run=^TestEveryThreadHasSlack$", "an argument")
	cmd.Env = append(os.Environ(), "SALLYPORT_TEST_SLACK=yes")
	cmd.ExtraFiles = []*os.File{file}
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	want := fmt.Sprintf("pid %d, last argument an argument, file kept, asked false, slack %v\n", cmd.Process.Pid, TimerSlack)
	if string(out) != want {
		t.Errorf("got  %swant %s", out, want)
	}
}

// exact gives this thread, and the programs that are started on it, the slack that Linux gives, whatever the tests were started with.
func exact(t *testing.T) {
	t.Helper()
	runtime.LockOSThread() // it ends with the test
	if err := unix.Prctl(unix.PR_SET_TIMERSLACK, uintptr(50*time.Microsecond), 0, 0, 0); err != nil {
		t.Fatal(err)
	}
}

// beSlack is the program.
func beSlack() {
	if err := Slack(); err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	kept := make([]byte, 4)
	_, err := os.NewFile(3, "kept").ReadAt(kept, 0)
	_, asked := os.LookupEnv(slackAsked)
	fmt.Printf("pid %d, last argument %s, file %s, asked %v, slack %s\n", os.Getpid(), os.Args[len(os.Args)-1], kept, asked, slacks())
	if err != nil {
		fmt.Println(err)
	}
	os.Exit(0)
}

// slacks are those of eight threads, each once.
func slacks() string {
	var all sync.WaitGroup
	found := make([]string, 8)
	together := make(chan struct{})
	for i := range found {
		all.Go(func() {
			runtime.LockOSThread() // it ends with its thread
			if i == len(found)-1 {
				close(together)
			}
			<-together
			slack, err := unix.PrctlRetInt(unix.PR_GET_TIMERSLACK, 0, 0, 0, 0)
			if err != nil {
				found[i] = err.Error()
				return
			}
			found[i] = time.Duration(slack).String()
		})
	}
	all.Wait()
	slices.Sort(found)
	return strings.Join(slices.Compact(found), " ")
}

// Where the system does not keep the slack, a process begins anew once, not for ever.
func TestSlackThatIsNotKept(t *testing.T) {
	exact(t)
	t.Setenv(slackAsked, fmt.Sprint(os.Getpid()))
	if err := Slack(); err == nil {
		t.Error("no error, though this process has begun anew and has no slack")
	}
	if _, still := os.LookupEnv(slackAsked); still {
		t.Error("the mark is left to the programs that this one starts")
	}
}
