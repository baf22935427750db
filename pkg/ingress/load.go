package ingress

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"regexp"

	"go.yaml.in/yaml/v3"
)

// maxFile bounds a rules file in bytes.
const maxFile = 1 << 20

// Load reads a rules file and reports every fault in it at once, each with its line. It also reads the CA files that
// rules name, so that what it accepts can be used.
//
//	rules:
//	  - host: oscar.clinic.example        # empty: every host
//	    path: /                           # prefix, whole segments; empty: "/"
//	    origin: https://127.0.0.1:8443
//	    preset: oscar                     # with context: /oscar, or a list
//	    tls: {pin_sha256: "sha256:…"}     # or ca_file, server_name; nothing: the system's authorities
//	    timeouts: {response_header: 300s} # also dial, tls, keep_alive, queue
//	    parallel: 100                     # exchanges at once, well below the origin's threads; queue: 256 may wait
//	    health: {path: /oscar/index.jsp, interval: 30s, timeout: 10s, status: [200, 302]}
//	  - host: oscar.second.example
//	    origins:                          # in order of preference; both on one database
//	      - {name: main, url: "https://10.0.0.5:8443", tls: {pin_sha256: "sha256:…"}}
//	      - {name: standby, url: "https://10.0.0.6:8443", tls: {pin_sha256: "sha256:…"}}
//	    balance: failover                 # or spread
//	  - status: 404                       # the last rule takes whatever is left
func Load(text []byte) (*Rules, []error) { return read(text, false) }

func read(text []byte, pushed bool) (*Rules, []error) {
	if len(text) > maxFile {
		return nil, []error{fmt.Errorf("the file is larger than %d bytes", maxFile)}
	}
	root, err := parse(text)
	if err != nil {
		return nil, []error{err}
	}
	var faults []error
	faults = append(faults, refuseReferences(root)...)
	var file rawFile
	faults = append(faults, decode(text, &file)...)
	lines := ruleLines(root)
	rules := &Rules{}
	for i := range file.Rules {
		line := 0
		if i < len(lines) {
			line = lines[i]
		}
		rule, wrong := file.Rules[i].rule(i+1, line, pushed)
		faults = append(faults, wrong...)
		rules.list = append(rules.list, rule)
	}
	faults = append(faults, checkOrder(rules)...)
	if len(faults) > 0 {
		return nil, faults
	}
	return rules, nil
}

func parse(text []byte) (*yaml.Node, error) {
	dec := yaml.NewDecoder(bytes.NewReader(text))
	var root, more yaml.Node
	switch err := dec.Decode(&root); {
	case errors.Is(err, io.EOF):
		return nil, errors.New("the file is empty; it needs at least one rule, such as rules: [{status: 404}]")
	case err != nil:
		return nil, errors.New(plainWords(err.Error()))
	}
	if err := dec.Decode(&more); !errors.Is(err, io.EOF) {
		return nil, errors.New("the file holds more than one YAML document")
	}
	return &root, nil
}

// decode fills file; keys that it does not know are faults like any other.
func decode(text []byte, file *rawFile) []error {
	dec := yaml.NewDecoder(bytes.NewReader(text))
	dec.KnownFields(true)
	err := dec.Decode(file)
	var typed *yaml.TypeError
	switch {
	case err == nil:
		return nil
	case !errors.As(err, &typed):
		return []error{errors.New(plainWords(err.Error()))}
	}
	faults := make([]error, 0, len(typed.Errors))
	for _, e := range typed.Errors {
		faults = append(faults, errors.New(plainWords(e)))
	}
	return faults
}

var (
	unknownField = regexp.MustCompile(`field (\S+) not found in type \S+`)
	yamlPrefix   = regexp.MustCompile(`^yaml: `)
	wrongType    = regexp.MustCompile("cannot unmarshal !!(\\w+)( `.*`)? into .*")
)

// plainWords turns the decoder's errors, which name Go types, into words for whoever wrote the file.
func plainWords(s string) string {
	s = yamlPrefix.ReplaceAllString(s, "")
	s = unknownField.ReplaceAllString(s, "unknown key $1")
	return wrongType.ReplaceAllString(s, "a $1$2 does not belong here")
}

// refuseReferences refuses anchors, aliases and merge keys: a reader must see a value where it counts.
func refuseReferences(n *yaml.Node) []error {
	var faults []error
	if n.Anchor != "" || n.Kind == yaml.AliasNode || n.Tag == "!!merge" {
		return []error{at(n.Line, "anchors, aliases and merge keys are not allowed")}
	}
	for _, c := range n.Content {
		faults = append(faults, refuseReferences(c)...)
	}
	return faults
}

// ruleLines finds where each rule begins.
func ruleLines(root *yaml.Node) []int {
	if len(root.Content) == 0 || root.Content[0].Kind != yaml.MappingNode {
		return nil
	}
	var lines []int
	top := root.Content[0].Content
	for i := 0; i+1 < len(top); i += 2 {
		if top[i].Value != "rules" {
			continue
		}
		for _, r := range top[i+1].Content {
			lines = append(lines, r.Line)
		}
	}
	return lines
}

// checkOrder looks at the rules together: the last must take everything, and none may stand behind one that takes all it
// would match.
func checkOrder(rules *Rules) []error {
	if len(rules.list) == 0 {
		return []error{errors.New("rules: there is none; the last must be a catch-all such as `status: 404`")}
	}
	var faults []error
	for i := range rules.list {
		for j := range i {
			if rules.list[j].covers(&rules.list[i]) {
				faults = append(faults, at(rules.list[i].Line, "rule %d can never match: rule %d (line %d) takes everything first",
					i+1, j+1, rules.list[j].Line))
				break
			}
		}
	}
	last := &rules.list[len(rules.list)-1]
	if last.Host != "" || last.Path != "/" {
		faults = append(faults, at(last.Line, "the last rule must take everything (no host, no path), for instance `status: 404`"))
	}
	return faults
}

func at(line int, format string, args ...any) error {
	return fmt.Errorf("line %d: %s", line, fmt.Sprintf(format, args...))
}
