package main

import (
	"encoding/json"
	"fmt"
	"os"
	"runtime"
	"slices"
	"strings"
	"text/tabwriter"
	"time"
)

// report is what was measured, as it is written to the file.
type report struct {
	Began     time.Time `json:"began"`
	GoVersion string    `json:"go"`
	CPUs      int       `json:"cpus"`
	Kernel    string    `json:"kernel"`
	Tables    []*table  `json:"tables"`
	LeftOut   []string  `json:"left_out,omitempty"`
}

// table is rows of medians.
type table struct {
	Name string `json:"name"`
	Note string `json:"note"`
	// Columns name the figures with their units.
	Columns []string `json:"columns"`
	Rows    []row    `json:"rows"`
}

// row has one figure for each column; one that was not measured is null.
type row struct {
	Name    string     `json:"name"`
	Figures []*float64 `json:"figures"`
	Failed  int        `json:"failed,omitempty"`
	Fault   string     `json:"first_fault,omitempty"`
}

func (r *report) describe() {
	kernel, _ := os.ReadFile("/proc/sys/kernel/osrelease")
	*r = report{Began: time.Now(), GoVersion: runtime.Version(), CPUs: runtime.NumCPU(), Kernel: strings.TrimSpace(string(kernel))}
}

// add prints a table and keeps it for the file.
func (r *report) add(t *table) {
	r.Tables = append(r.Tables, t)
	fmt.Printf("\n%s\n", t.Note)
	out := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintf(out, "\t%s\t\n", strings.Join(t.Columns, "\t"))
	for _, row := range t.Rows {
		cells := make([]string, len(row.Figures))
		for i, f := range row.Figures {
			cells[i] = figure(f)
		}
		fmt.Fprintf(out, "%s\t%s\t", row.Name, strings.Join(cells, "\t"))
		if row.Failed > 0 {
			fmt.Fprintf(out, "%d FAILED, first: %s", row.Failed, row.Fault)
		}
		fmt.Fprintln(out)
	}
	out.Flush()
}

// figure prints a number with three figures that mean something.
func figure(f *float64) string {
	switch {
	case f == nil:
		return "-"
	case *f >= 100:
		return fmt.Sprintf("%.0f", *f)
	case *f >= 10:
		return fmt.Sprintf("%.1f", *f)
	}
	return fmt.Sprintf("%.2f", *f)
}

func (r *report) write(path string) error {
	text, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return err
	}
	if err := os.WriteFile(path, append(text, '\n'), 0o644); err != nil {
		return err
	}
	fmt.Println("\nfigures written to", path)
	return nil
}

// samples are the figures of the rounds of one row, column by column.
type samples struct {
	name    string
	columns [][]float64
	failed  int
	fault   string
}

// add adds one figure to a column.
func (s *samples) add(column int, v float64) {
	for len(s.columns) <= column {
		s.columns = append(s.columns, nil)
	}
	s.columns[column] = append(s.columns[column], v)
}

// fail keeps count of what went wrong.
func (s *samples) fail(m measured) {
	if s.failed += m.Failed; s.fault == "" {
		s.fault = m.Fault
	}
}

// median is the row of medians.
func (s *samples) median(columns int) row {
	r := row{Name: s.name, Figures: make([]*float64, columns), Failed: s.failed, Fault: s.fault}
	for i, values := range s.columns {
		if len(values) > 0 {
			values = slices.Sorted(slices.Values(values))
			r.Figures[i] = &values[len(values)/2]
		}
	}
	return r
}
