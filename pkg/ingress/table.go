package ingress

import (
	"fmt"
	"strings"
)

// table is rules and the origins that they lead to. It never changes; other rules make another one, in which origins and
// groups that stay as they are keep their queue, circuit, health, connections and bindings.
type table struct {
	rules   *Rules
	groups  []*group  // by rule, in their order; nil where a rule has no origin
	origins []*origin // each once, in the order of the rules
	shared  map[string]*group
}

// assemble builds the table for rules out of what previous has.
func (in *Ingress) assemble(rules *Rules, previous *table) *table {
	t := &table{rules: rules, shared: map[string]*group{}}
	known := map[string]*origin{}
	for _, o := range previous.origins {
		known[o.key] = o
	}
	placed := map[*origin]bool{}
	for i := range rules.list {
		r := &rules.list[i]
		if r.Origin == nil {
			t.groups = append(t.groups, nil)
			continue
		}
		var origins []*origin
		var keys []string
		for n := range r.Origins {
			target := &r.Origins[n]
			key := r.originKey(target)
			o := known[key]
			if o == nil {
				o = newOrigin(r, target, key, in)
				known[key] = o
			}
			if !placed[o] {
				placed[o] = true
				t.origins = append(t.origins, o)
				o.call(target.Name, len(t.origins), r.Host)
			}
			origins, keys = append(origins, o), append(keys, key)
		}
		t.groups = append(t.groups, t.group(strings.Join(keys, "\n")+r.Balance, origins, r.Balance == BalanceSpread, previous))
	}
	return t
}

func (t *table) group(key string, origins []*origin, spread bool, previous *table) *group {
	g := t.shared[key]
	if g == nil {
		g = previous.shared[key]
	}
	if g == nil {
		g = newGroup(origins, spread)
	}
	t.shared[key] = g
	return g
}

// call names an origin for logs, metrics and heartbeats, where addresses do not belong.
func (o *origin) call(name string, place int, host string) {
	if name == "" {
		name = fmt.Sprintf("origin-%d", place)
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	o.name, o.checkHost = name, host
}
