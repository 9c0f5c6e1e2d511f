package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"

	"mdclone/pkg/report"
)

// document is what a command has to say: lines for a person, or the one JSON object of --json.
type document struct {
	Result  string          `json:"result"`
	Reasons []report.Reason `json:"reasons"`
	Root    string          `json:"root,omitempty"`
	Written []string        `json:"written,omitempty"` // install: files that were made or changed
	Removed []string        `json:"removed,omitempty"` // uninstall
	Kept    []string        `json:"kept,omitempty"`    // uninstall: what stays on purpose
	Images  []imageReport   `json:"images,omitempty"`
	Next    *choice         `json:"next_boot,omitempty"` // boot-once: what was chosen
	Undone  []string        `json:"undone,omitempty"`    // boot-once --undo: what was there of a choice

	good string // what is said of an image without differences
}

// imageReport is what was found in one boot image.
type imageReport struct {
	Image       string          `json:"image"`
	OK          bool            `json:"ok"`
	Differences []report.Reason `json:"differences"`

	rescue bool // it is the rescue image, which another command makes
	entry  bool // it is what an entry of systemd-boot names
}

// lines are for a person; the reasons are one for each difference here, as finish has not added the summary yet.
func (d *document) lines(w io.Writer) {
	for _, f := range d.Written {
		fmt.Fprintf(w, "written: %s\n", f)
	}
	for _, f := range d.Removed {
		fmt.Fprintf(w, "removed: %s\n", f)
	}
	for _, f := range d.Kept {
		fmt.Fprintf(w, "kept: %s (--purge removes it)\n", f)
	}
	for _, r := range d.Reasons {
		fmt.Fprintln(w, r.Text)
	}
	for _, i := range d.Images {
		if i.OK {
			fmt.Fprintf(w, "%s: %s\n", i.Image, d.good)
		}
	}
}

func (d *document) json(w io.Writer) error {
	out := json.NewEncoder(w)
	out.SetIndent("", "  ")
	return out.Encode(d)
}

// finish prints what doc says, for a person. err, the summary, ends up on stderr; JSON has both.
func (a *app) finish(doc *document, err error) error {
	if stopped := a.stopped(); stopped != nil && err != nil { // whatever else has failed because of it
		if !slices.ContainsFunc(report.ReasonsOf(err), func(r report.Reason) bool { return r.Code == "interrupted" }) {
			err = errors.Join(err, stopped)
		}
		err = report.WithCode(report.Interrupted, err)
	}
	if !a.json {
		doc.lines(a.stdout)
	}
	doc.Result = report.CodeOf(err).Result()
	doc.Reasons = append(doc.Reasons, report.ReasonsOf(err)...)
	if doc.Reasons == nil {
		doc.Reasons = []report.Reason{}
	}
	a.document = doc
	return err
}
