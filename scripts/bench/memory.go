package main

import (
	"bufio"
	"context"
	"fmt"
	"net/http"
	"os"
	"strconv"
	"strings"
)

// memory is what a program of ours holds, in bytes.
type memory struct {
	// resident is what the system has given it; the rest is a part of that, by Go's own account: blocks of the heap with
	// anything in them, stacks, and blocks with nothing that are not given back.
	resident, heap, stacks, free float64
}

func (m memory) less(other memory) memory {
	return memory{m.resident - other.resident, m.heap - other.heap, m.stacks - other.stacks, m.free - other.free}
}

func (m memory) over(n float64) memory {
	return memory{m.resident / n, m.heap / n, m.stacks / n, m.free / n}
}

// memory asks the program, which serves its metrics at loopback.
func (p *program) memory(ctx context.Context, loopback string) (m memory, err error) {
	if m.resident, err = resident(p); err != nil {
		return m, err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+loopback+"/metrics", nil)
	if err != nil {
		return m, err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return m, err
	}
	defer resp.Body.Close()
	said := map[string]float64{}
	for lines := bufio.NewScanner(resp.Body); lines.Scan(); {
		if name, value, ok := strings.Cut(lines.Text(), " "); ok && strings.HasPrefix(name, "go_memstats_") {
			if said[name], err = strconv.ParseFloat(value, 64); err != nil {
				return m, err
			}
		}
	}
	m.heap, m.stacks = said["go_memstats_heap_inuse_bytes"], said["go_memstats_stack_inuse_bytes"]
	m.free = said["go_memstats_heap_idle_bytes"] - said["go_memstats_heap_released_bytes"]
	if m.heap == 0 || m.stacks == 0 {
		return m, fmt.Errorf("%s: no go_memstats_ in its metrics", p.name)
	}
	return m, nil
}

// resident is the memory of a program that is in use, in bytes.
func resident(p *program) (float64, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/statm", p.group()))
	if err != nil {
		return 0, err
	}
	pages, err := strconv.ParseFloat(strings.Fields(string(text))[1], 64)
	return pages * float64(os.Getpagesize()), err
}
