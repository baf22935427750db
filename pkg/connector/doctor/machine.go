package doctor

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/sallyport-dev/sallyport/pkg/connector"
)

// leastFree is how little room on the disk is worth a warning: identity, rules and the journal still fit, an upgrade does not.
const leastFree = 128 << 20

const inviteAdvice = "Ask your provider for an invitation and paste its line here: connector enroll https://… --code … --ca …"

// checkEnrolment reads the state directory as run would, and finds out which edge the rest is about.
func (x *examination) checkEnrolment(context.Context) []Check {
	check := x.readState()
	if err := x.aim(); err != nil {
		x.why = "the edge to ask is not known"
		if x.enrolled || x.Edge != "" {
			x.why = "the way to the edge is not configured well"
			return append(check, Check{
				Name: CheckEnrolment, State: Problem, Detail: err.Error(), Advice: []string{"Correct the setting; connector run --show-config shows where each comes from."},
			})
		}
	}
	return check
}

func (x *examination) readState() []Check {
	dir := x.Connector.StateDir
	if dir == "" {
		return skipped(CheckEnrolment, "no state directory is configured")
	}
	_, err := os.Stat(filepath.Join(dir, "identity.json"))
	switch {
	case errors.Is(err, fs.ErrNotExist) && x.Edge != "":
		return skipped(CheckEnrolment, "this machine is not enrolled yet; the edge that you named is examined")
	case errors.Is(err, fs.ErrNotExist):
		return found(CheckEnrolment, Problem, "this machine is not enrolled: "+dir+" holds no enrolment", inviteAdvice,
			"To look at the way to an edge before that: connector doctor --edge https://…")
	case errors.Is(err, fs.ErrPermission) && x.Edge != "":
		return skipped(CheckEnrolment, "you may not read "+dir+"; run it with sudo")
	}
	identity, _, err := connector.LoadState(dir)
	switch {
	case errors.Is(err, fs.ErrPermission):
		return found(CheckEnrolment, Problem, "you may not read "+dir, "Run this as root: sudo connector doctor")
	case err != nil:
		return found(CheckEnrolment, Problem, err.Error(),
			"Put right what is said there. If the files are damaged: stop the connector, remove identity.json and key.pem in "+dir+", and enrol anew.", inviteAdvice)
	}
	x.identity, x.enrolled = identity, true
	if info, err := os.Stat(dir); err == nil && info.Mode().Perm()&0o022 != 0 {
		return found(CheckEnrolment, Problem, fmt.Sprintf("others may write to %s (mode %v)", dir, info.Mode().Perm()), "chmod 700 "+dir)
	}
	return found(CheckEnrolment, OK, fmt.Sprintf("enrolled as %s for %s/%s", identity.Connector, identity.Tenant, identity.Site))
}

// checkDisk looks at the file system of the state directory.
func (x *examination) checkDisk(context.Context) []Check {
	dir := x.Connector.StateDir
	for dir != "" {
		if _, err := os.Stat(dir); !errors.Is(err, fs.ErrNotExist) || dir == filepath.Dir(dir) {
			break
		}
		dir = filepath.Dir(dir) // it is made by enrolment
	}
	if dir == "" {
		return skipped(CheckDisk, "no state directory is configured")
	}
	free, err := x.Free(dir)
	switch {
	case err != nil:
		return skipped(CheckDisk, err.Error())
	case free < leastFree:
		return found(CheckDisk, Problem, fmt.Sprintf("only %d MiB are free at %s", free>>20, dir),
			"Make room on that disk: old logs are a good start (journalctl --vacuum-size=200M).")
	}
	return found(CheckDisk, OK, fmt.Sprintf("%d MiB are free at %s", free>>20, dir))
}
