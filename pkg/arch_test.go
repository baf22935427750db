package pkg_test

import (
	"fmt"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

const module = "github.com/sallyport-dev/sallyport"

// row is one line of the table in README.md.
type row struct {
	layer int
	homes []string
}

// tree is what the checker looks at: each package's imports and comment, by its path below the module.
type pkgInfo struct {
	imports map[string]string // import path → file that has it
	comment bool
}

var tableRow = regexp.MustCompile("^\\| (\\d) \\| `([^`]+)` \\|[^|]*\\|[^|]*\\|([^|]*)\\|$")

// readTable parses the table of pkg/README.md, plus the rows that it states in prose: the two programs and the generated
// protocol code.
func readTable(text string) map[string]row {
	rows := map[string]row{
		"cmd/edge":                      {5, []string{"github.com/spf13/cobra", "github.com/spf13/pflag"}},
		"cmd/connector":                 {5, []string{"github.com/spf13/cobra", "github.com/spf13/pflag"}},
		"proto/tunnel/v1":               {0, []string{"google.golang.org/protobuf"}},
		"proto/admin/v1":                {0, []string{"google.golang.org/protobuf"}},
		"proto/admin/v1/adminv1connect": {0, []string{"connectrpc.com/connect"}},
	}
	for line := range strings.Lines(text) {
		m := tableRow.FindStringSubmatch(strings.TrimRight(line, "\n"))
		if m == nil {
			continue
		}
		layer, _ := strconv.Atoi(m[1])
		var homes []string
		for h := range strings.SplitSeq(m[3], ",") {
			if h = strings.TrimSpace(h); h != "" {
				homes = append(homes, h)
			}
		}
		rows["pkg/"+m[2]] = row{layer, homes}
	}
	return rows
}

// free may be used everywhere.
var free = []string{"go.uber.org/zap", "github.com/prometheus/client_golang", "github.com/google/uuid", "golang.org/x/"}

// check returns every breach of the rules, as sentences.
func check(rows map[string]row, pkgs map[string]pkgInfo) []string {
	var faults []string
	complain := func(format string, args ...any) { faults = append(faults, fmt.Sprintf(format, args...)) }
	for name := range rows {
		if _, ok := pkgs[name]; !ok && strings.HasPrefix(name, "pkg/") {
			complain("pkg/README.md has a row for %s, which does not exist", name)
		}
	}
	for name, p := range pkgs {
		own, ok := rows[name]
		if !ok {
			complain("%s has no row in pkg/README.md: add its layer and what it owns", name)
			continue
		}
		if !p.comment {
			complain("%s has no package comment: say what it owns and what not", name)
		}
		for imp, file := range p.imports {
			if rel, ours := strings.CutPrefix(imp, module+"/"); ours {
				if other, ok := rows[rel]; ok && other.layer > own.layer {
					complain("%s (layer %d) imports %s (layer %d): imports go down or sideways", file, own.layer, rel, other.layer)
				}
				continue
			}
			if isThirdParty(imp) && !hasAny(imp, free) && !hasAny(imp, own.homes) {
				complain("%s imports %s, which has its home elsewhere: see pkg/README.md", file, imp)
			}
		}
	}
	return faults
}

func isThirdParty(imp string) bool {
	first, _, _ := strings.Cut(imp, "/")
	return strings.Contains(first, ".")
}

func hasAny(imp string, prefixes []string) bool {
	for _, p := range prefixes {
		if imp == p || strings.HasPrefix(imp, strings.TrimSuffix(p, "/")+"/") {
			return true
		}
	}
	return false
}

func readTree(t *testing.T, root string) map[string]pkgInfo {
	t.Helper()
	pkgs := map[string]pkgInfo{}
	for _, top := range []string{"cmd", "pkg", "proto"} {
		err := filepath.WalkDir(filepath.Join(root, top), func(file string, d fs.DirEntry, err error) error {
			if err != nil {
				return err
			}
			if d.IsDir() && d.Name() == "testdata" {
				return filepath.SkipDir
			}
			if d.IsDir() || !strings.HasSuffix(file, ".go") || strings.HasSuffix(file, "_test.go") {
				return nil
			}
			rel, err := filepath.Rel(root, file)
			if err != nil {
				return err
			}
			return readFile(pkgs, file, filepath.ToSlash(rel))
		})
		if err != nil && !os.IsNotExist(err) {
			t.Fatal(err)
		}
	}
	return pkgs
}

func readFile(pkgs map[string]pkgInfo, file, rel string) error {
	parsed, err := parser.ParseFile(token.NewFileSet(), file, nil, parser.ImportsOnly|parser.ParseComments)
	if err != nil {
		return err
	}
	name := path.Dir(rel)
	p, ok := pkgs[name]
	if !ok {
		p = pkgInfo{imports: map[string]string{}}
	}
	generated := strings.HasPrefix(rel, "proto/")
	p.comment = p.comment || generated || (parsed.Doc != nil && strings.HasPrefix(parsed.Doc.Text(), commentStart(name, parsed.Name.Name)))
	for _, imp := range parsed.Imports {
		unquoted, err := strconv.Unquote(imp.Path.Value)
		if err != nil {
			return err
		}
		p.imports[unquoted] = rel
	}
	pkgs[name] = p
	return nil
}

func commentStart(dir, name string) string {
	if strings.HasPrefix(dir, "cmd/") {
		return "Command " + path.Base(dir)
	}
	return "Package " + name + " "
}

func TestTheTreeKeepsItsLayers(t *testing.T) {
	text, err := os.ReadFile("README.md")
	if err != nil {
		t.Fatal(err)
	}
	rows := readTable(string(text))
	pkgs := readTree(t, "..")
	if len(pkgs) < 20 || len(rows) < 20 {
		t.Fatalf("read %d packages and %d rows: the check sees too little", len(pkgs), len(rows))
	}
	for _, fault := range check(rows, pkgs) {
		t.Error(fault)
	}
}

// The checker itself must catch what it is for.
func TestPlantedBreachesAreCaught(t *testing.T) {
	rows := readTable("| 1 | `tunnel` | x | | |\n| 1 | `tunnel/quiclink` | x | | github.com/quic-go/quic-go |\n| 3 | `proxy` | x | | |\n| 2 | `gone` | x | | |\n")
	ok := pkgInfo{imports: map[string]string{}, comment: true}
	imports := func(file string, paths ...string) pkgInfo {
		p := pkgInfo{imports: map[string]string{}, comment: true}
		for _, i := range paths {
			p.imports[i] = file
		}
		return p
	}
	tree := func(changed map[string]pkgInfo) map[string]pkgInfo {
		all := map[string]pkgInfo{"pkg/tunnel": ok, "pkg/tunnel/quiclink": ok, "pkg/proxy": ok, "pkg/gone": ok}
		for name, p := range changed {
			all[name] = p
		}
		return all
	}
	for _, c := range []struct {
		name string
		pkgs map[string]pkgInfo
		want []string
	}{
		{"whole", tree(map[string]pkgInfo{"pkg/tunnel/quiclink": imports("q.go", "github.com/quic-go/quic-go", "net", module+"/pkg/tunnel")}), nil},
		{
			"upward import", tree(map[string]pkgInfo{"pkg/tunnel": imports("t.go", module+"/pkg/proxy")}),
			[]string{"t.go (layer 1) imports pkg/proxy (layer 3): imports go down or sideways"},
		},
		{
			"second home", tree(map[string]pkgInfo{"pkg/proxy": imports("p.go", "github.com/quic-go/quic-go/http3")}),
			[]string{"p.go imports github.com/quic-go/quic-go/http3, which has its home elsewhere: see pkg/README.md"},
		},
		{
			"no comment", tree(map[string]pkgInfo{"pkg/proxy": {imports: map[string]string{}}}),
			[]string{"pkg/proxy has no package comment: say what it owns and what not"},
		},
		{"no row", tree(map[string]pkgInfo{"pkg/extra": ok}), []string{"pkg/extra has no row in pkg/README.md: add its layer and what it owns"}},
	} {
		if diff := cmp.Diff(c.want, check(rows, c.pkgs)); diff != "" {
			t.Errorf("%s: %s", c.name, diff)
		}
	}
}
