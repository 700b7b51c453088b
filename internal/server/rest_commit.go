package server

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/skep-dev/skep/internal/client"
	"github.com/skep-dev/skep/internal/errkind"
	"github.com/skep-dev/skep/internal/git"
	"github.com/skep-dev/skep/internal/git/odb"
	"github.com/skep-dev/skep/internal/policy"
	"github.com/skep-dev/skep/internal/router"
)

var errTooManyChanges = denial{errkind.TooLarge, fmt.Sprintf("more than %d files in one request: push them with git", maxChanges)}

// maxMessage bounds a commit's message.
const maxMessage = 64 << 10

func (a *restAPI) createCommit(ctx context.Context, p policy.Principal, in *struct {
	RepoParam
	Body client.CreateCommit
},
) (*out[client.CreatedCommit], error) {
	want := in.Body
	cell, r, w, err := a.openToWrite(ctx, p, in.Repo)
	if err != nil {
		return nil, err
	}
	defer cell.Release()
	if err := a.mayStore(ctx, r.Tenant); err != nil {
		return nil, err
	}
	req := router.CommitRequest{Parent: want.ExpectedParent, Writer: w}
	if want.Branch == "" {
		return nil, fmt.Errorf("branch is missing: %w", errkind.Invalid)
	}
	if req.Branch, err = parseBranch(want.Branch); err != nil {
		return nil, err
	}
	if req.Message, err = parseMessage(want.Message); err != nil {
		return nil, err
	}
	if req.Author, err = signature(p, want.Author); err != nil {
		return nil, err
	}
	req.Committer = req.Author
	if want.Committer != nil {
		if req.Committer, err = signature(p, want.Committer); err != nil {
			return nil, err
		}
	}
	if want.StartPoint != "" {
		s := snapshot{Repo: cell, repo: r, view: cell.View()}
		if s.graph, err = s.view.Graph(); err != nil {
			return nil, err
		}
		if req.From, err = s.commit(ctx, want.StartPoint); err != nil {
			return nil, err
		}
	}
	if req.Changes, err = parseChanges(want.Changes); err != nil {
		return nil, err
	}
	o, err := cell.Commit(ctx, req)
	if err != nil {
		return nil, err
	}
	return &out[client.CreatedCommit]{client.CreatedCommit{SHA: o, Ref: string(req.Branch)}}, nil
}

func parseMessage(m string) (string, error) {
	switch {
	case strings.TrimSpace(m) == "":
		return "", fmt.Errorf("message is empty: %w", errkind.Invalid)
	case len(m) > maxMessage:
		return "", fmt.Errorf("message has more than %d bytes: %w", maxMessage, errkind.TooLarge)
	case strings.IndexByte(m, 0) >= 0:
		return "", fmt.Errorf("message has a NUL: %w", errkind.Invalid)
	}
	if !strings.HasSuffix(m, "\n") {
		m += "\n"
	}
	return m, nil
}

func parseChanges(in []client.Change) ([]odb.Change, error) {
	switch {
	case len(in) == 0:
		return nil, fmt.Errorf("changes are missing: %w", errkind.Invalid)
	case len(in) > maxChanges:
		return nil, errTooManyChanges
	}
	changes := make([]odb.Change, len(in))
	for i, c := range in {
		bad := func(why string) error { return fmt.Errorf("change of %q %s: %w", clip(c.Path), why, errkind.Invalid) }
		o := odb.Change{Path: c.Path, Delete: c.Delete, Data: c.ContentBase64}
		switch c.Mode {
		case "":
		case "100644":
			o.Mode = git.ModeFile
		case "100755":
			o.Mode = git.ModeExec
		case "120000":
			o.Mode = git.ModeSymlink
		default:
			return nil, bad("has a mode other than 100644, 100755 and 120000")
		}
		if c.Content != nil {
			if len(o.Data) > 0 {
				return nil, bad("has both content and content_base64")
			}
			o.Data = []byte(*c.Content)
		}
		has := c.Content != nil || c.ContentBase64 != nil
		if c.Delete && has {
			return nil, bad("has content and deletes")
		}
		if !c.Delete && !has {
			return nil, bad("has neither content nor delete")
		}
		if !c.Delete && o.Data == nil {
			o.Data = []byte{}
		}
		changes[i] = o
	}
	return changes, nil
}

// signature is who makes a commit: the caller, unless the request names somebody.
func signature(p policy.Principal, who *client.Person) (git.Signature, error) {
	const most = 200
	if who == nil {
		// What an issuer has made up has a long name, of which the end says most.
		who = &client.Person{Name: p.Name[max(0, len(p.Name)-most):], Email: string(p.ID) + "@users.skep.invalid"}
	}
	for _, s := range []string{who.Name, who.Email} {
		if strings.TrimSpace(s) == "" || len(s) > most || strings.ContainsAny(s, "<>\n\r\x00") {
			return git.Signature{}, fmt.Errorf("a person's name or email is empty, over %d bytes, or has one of <, > and line breaks: %w", most, errkind.Invalid)
		}
	}
	when := who.Date
	if when.IsZero() {
		when = time.Now().UTC()
	}
	if when.Unix() < 0 {
		return git.Signature{}, fmt.Errorf("date is before 1970: %w", errkind.Invalid)
	}
	return git.Signature{Name: []byte(who.Name), Email: []byte(who.Email), When: when}, nil
}
