package milestone

import (
	"context"
	"iter"
	"strings"
	"time"
)

// Repo is a Git repository that has milestones. Commits are named by their IDs in hexadecimal, of whatever length the repository has.
type Repo interface {
	// Tip returns the commit that a branch is at, "" if there is no such branch.
	Tip(ctx context.Context, branch string) (string, error)
	// Get returns the commit that a revision names, as git understands it. errkind.NotFound if there is none.
	Get(ctx context.Context, rev string) (*Commit, error)
	// Log returns the commits from one on that change a path, the latest first.
	Log(ctx context.Context, from, path string) iter.Seq2[*Commit, error]
	// Files returns the files of a commit below some folders, by path, each with what tells its content and mode from any other.
	Files(ctx context.Context, commit string, folders []string) (map[string]string, error)
	// Read returns the contents of files of a commit. errkind.NotFound if one is not there, errkind.TooLarge if one has more than MaxFileSize.
	Read(ctx context.Context, commit string, paths []string) ([][]byte, error)
	// Commit makes a commit and moves the branch to it. errkind.Conflict if the branch is not at the request's parent: nothing is changed then.
	Commit(ctx context.Context, r *CommitRequest) (string, error)
}

// Commit is what a repository says of a commit.
type Commit struct {
	ID      string
	Author  Person
	When    time.Time // of the committer
	Message string
}

// Person is whom a commit is by.
type Person struct {
	Name  string
	Email string
}

// printable reports whether a commit can name a person.
func (p Person) printable() bool {
	return printable(p.Name) && printable(p.Email) && !strings.ContainsAny(p.Name+p.Email, "<>")
}

// CommitRequest is a commit to be made.
type CommitRequest struct {
	Branch  string
	Parent  string // where the branch is; "": it is not there yet
	Changes []Change
	Message string
	Author  Person // zero: as the repository's settings say
	When    time.Time
}

// Change is a file that a commit writes or deletes.
type Change struct {
	Path   string
	Data   []byte
	Delete bool
}
