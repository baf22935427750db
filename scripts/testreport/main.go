// Command testreport reads `go test -json` on standard input, prints what failed and what was skipped, and fails on a skip
// that the list does not name. Its last line is "N passed, N failed, N skipped".
package main

import (
	"bufio"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"os"
	"sort"
	"strings"
)

// event is one line of test2json.
type event struct {
	Action, Package, ImportPath, Test, Output string
	Elapsed                                   float64
}

type report struct {
	output                  map[string][]string // "package test" → lines, kept until it passes
	passed, failed, skipped int
	allowed                 map[string]bool
	used                    map[string]bool
	faults                  []string
	slow                    []string
	out                     io.Writer
}

func main() {
	list := flag.String("skips", ".ci/skips", "file with the skips that are allowed: package, test, reason")
	flag.Parse()
	allowed, err := readSkips(*list)
	if err != nil {
		fmt.Fprintln(os.Stderr, "testreport:", err)
		os.Exit(2)
	}
	r := &report{output: map[string][]string{}, allowed: allowed, used: map[string]bool{}, out: os.Stdout}
	if err := r.read(os.Stdin); err != nil {
		fmt.Fprintln(os.Stderr, "testreport:", err)
		os.Exit(2)
	}
	if !r.finish() {
		os.Exit(1)
	}
}

// readSkips reads lines of "package test reason…"; a line without a reason is an error.
func readSkips(file string) (map[string]bool, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	allowed := map[string]bool{}
	for n, line := range strings.Split(string(text), "\n") {
		line = strings.TrimSpace(line)
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		fields := strings.Fields(line)
		if len(fields) < 4 {
			return nil, fmt.Errorf("%s:%d: want a package, a test and a reason", file, n+1)
		}
		allowed[fields[0]+" "+fields[1]] = true
	}
	return allowed, nil
}

func (r *report) read(in io.Reader) error {
	scan := bufio.NewScanner(in)
	scan.Buffer(nil, 16<<20)
	for scan.Scan() {
		var e event
		if err := json.Unmarshal(scan.Bytes(), &e); err != nil {
			r.faults = append(r.faults, scan.Text())
			continue
		}
		r.take(e)
	}
	return scan.Err()
}

func (r *report) take(e event) {
	pkg := e.Package
	if pkg == "" {
		pkg = e.ImportPath
	}
	key := pkg + " " + e.Test
	switch e.Action {
	case "output", "build-output":
		r.output[key] = append(r.output[key], e.Output)
	case "pass":
		if e.Test != "" {
			r.passed++
			if e.Elapsed > 10 && !strings.Contains(e.Test, "/") {
				r.slow = append(r.slow, fmt.Sprintf("%6.1f s  %s", e.Elapsed, key))
			}
		}
		delete(r.output, key)
	case "skip":
		r.skip(pkg, e.Test, key)
	case "fail", "build-fail":
		r.failed++
		fmt.Fprintf(r.out, "FAIL %s\n%s", key, strings.Join(r.output[key], ""))
		delete(r.output, key)
	}
}

func (r *report) skip(pkg, test, key string) {
	if test == "" { // a package without tests
		delete(r.output, key)
		return
	}
	r.skipped++
	short := pkg[strings.LastIndex(pkg, "sallyport/")+len("sallyport/"):] + " " + test
	fmt.Fprintf(r.out, "SKIP %s\n%s", short, strings.Join(r.output[key], ""))
	if !r.allowed[short] {
		r.faults = append(r.faults, "skipped and not listed in .ci/skips: "+short)
	}
	delete(r.output, key)
}

func (r *report) finish() bool {
	sort.Sort(sort.Reverse(sort.StringSlice(r.slow)))
	for _, s := range r.slow {
		fmt.Fprintln(r.out, "slow", s)
	}
	for _, f := range r.faults {
		fmt.Fprintln(r.out, f)
	}
	if r.passed == 0 {
		fmt.Fprintln(r.out, "no test ran")
	}
	fmt.Fprintf(r.out, "%d passed, %d failed, %d skipped\n", r.passed, r.failed, r.skipped)
	return r.failed == 0 && len(r.faults) == 0 && r.passed > 0
}
