package edgetest

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// Earlier builds edge and connector as they were at a commit, from the repository's own history, and returns their directory. In a
// clone that lacks the commit (git clone --depth) the test is skipped.
func Earlier(t testing.TB, commit string) string {
	t.Helper()
	dir := t.TempDir()
	tree := filepath.Join(dir, "tree")
	if err := os.Mkdir(tree, 0o700); err != nil {
		t.Fatal(err)
	}
	module := strings.TrimSpace(command(t, ".", "go", "env", "GOMOD"))
	archive := filepath.Join(dir, "tree.tar")
	has := exec.Command("git", "cat-file", "-e", commit+"^{commit}")
	has.Dir = filepath.Dir(module)
	if err := has.Run(); err != nil {
		t.Skipf("this clone lacks commit %s; git fetch --unshallow brings it", commit)
	}
	command(t, filepath.Dir(module), "git", "archive", "--output", archive, commit)
	command(t, tree, "tar", "-xf", archive)
	command(t, tree, "go", "build", "-trimpath", "-o", dir+string(filepath.Separator), "./cmd/edge", "./cmd/connector")
	return dir
}

// command runs a program in a directory and returns what it printed; a failure ends the test.
func command(t testing.TB, dir, name string, args ...string) string {
	t.Helper()
	cmd := exec.Command(name, args...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	text, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatal(fmt.Errorf("%s %s: %w\n%s", name, strings.Join(args, " "), err, text))
	}
	return string(text)
}
