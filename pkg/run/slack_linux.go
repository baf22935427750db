package run

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"strconv"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// TimerSlack is how much later than asked for the system may wake a thread that sleeps or waits with a limit (PR_SET_TIMERSLACK in
// prctl(2)); it is 50 µs by default. Go's own timers are as coarse as a millisecond when a process has nothing to do, and exact
// when it has, either way by other means.
const TimerSlack = 500 * time.Microsecond

// slackAsked is, in the environment, the process that began anew for its slack: where that is lost on the way it must not do so again.
const slackAsked = "SALLYPORT_SLACK_ASKED"

// Slack has every thread of this process get TimerSlack. Go's runtime has one that looks after the others every 20 µs while they do
// much; it cannot be told to look less often, but the system can be told to let it sleep (DESIGN.md has what that saves).
//
// A thread gets the slack of the one that began it, and that one begins before main does. So Slack replaces this process's program by
// itself, with the same arguments, environment and open files, and the same process ID; it does not return then. It returns nil
// where the slack is there already. On an error the process is as it was. main calls it before anything else: a signal that is
// caught meanwhile would be lost.
func Slack() error {
	asked := os.Getenv(slackAsked) == strconv.Itoa(os.Getpid())
	if err := os.Unsetenv(slackAsked); err != nil {
		return err
	}
	// What is set here is this thread's, and the one that calls exec is the one that stays.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	before, err := unix.PrctlRetInt(unix.PR_GET_TIMERSLACK, 0, 0, 0, 0)
	if err != nil {
		return fmt.Errorf("timer slack: %w", err)
	}
	if before >= int(TimerSlack) {
		return nil
	}
	if asked {
		return errors.New("timer slack: the system does not keep it")
	}
	program, err := os.Executable()
	if err != nil {
		return fmt.Errorf("timer slack: %w", err)
	}
	if err := unix.Prctl(unix.PR_SET_TIMERSLACK, uintptr(TimerSlack), 0, 0, 0); err != nil {
		return fmt.Errorf("timer slack: %w", err)
	}
	err = syscall.Exec(program, os.Args, append(os.Environ(), slackAsked+"="+strconv.Itoa(os.Getpid())))
	_ = unix.Prctl(unix.PR_SET_TIMERSLACK, uintptr(before), 0, 0, 0)
	return fmt.Errorf("timer slack: %w", err)
}
