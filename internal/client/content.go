package client

import (
	"time"

	"github.com/skep-dev/skep/internal/git"
)

// Entry is one entry of a directory, or a file.
type Entry struct {
	Path       string  `json:"path" doc:"From the repository's root"`
	PathBase64 string  `json:"path_base64,omitempty" doc:"The path's bytes, when they are not UTF-8"`
	Type       string  `json:"type" enum:"file,dir,symlink,submodule"`
	Mode       string  `json:"mode" example:"100644" doc:"As git writes it"`
	SHA        git.OID `json:"sha"`
	Size       *int64  `json:"size,omitempty" doc:"In bytes, of files and symlinks"`
}

// Contents is a path's content at a revision: of a file its bytes, of a directory its entries.
type Contents struct {
	Entry
	Commit   git.OID `json:"commit" doc:"What the revision resolved to"`
	Encoding string  `json:"encoding,omitempty" enum:"base64" doc:"Of content"`
	Content  string  `json:"content,omitempty" doc:"A file's bytes or a symlink's target, in base64. Ask with raw=1 for the bytes alone"`
	Entries  []Entry `json:"entries,omitempty" doc:"A directory's entries"`
}

// Tree is a page of a tree's entries.
type Tree struct {
	SHA        git.OID `json:"sha"`
	Commit     git.OID `json:"commit" doc:"What the revision resolved to"`
	Items      []Entry `json:"items"`
	NextCursor string  `json:"next_cursor,omitempty"`
}

// Person is who did something, and when.
type Person struct {
	Name  string    `json:"name" maxLength:"200"`
	Email string    `json:"email" maxLength:"200"`
	Date  time.Time `json:"date,omitzero" required:"false" doc:"Default: now"`
}

// Commit is a commit.
type Commit struct {
	SHA       git.OID   `json:"sha"`
	Tree      git.OID   `json:"tree"`
	Parents   []git.OID `json:"parents"`
	Author    Person    `json:"author"`
	Committer Person    `json:"committer"`
	Message   string    `json:"message"`
}

// DiffStats counts a diff's lines.
type DiffStats struct {
	Files     int `json:"files"`
	Additions int `json:"additions"`
	Deletions int `json:"deletions"`
}

// FileDiff is one changed path.
type FileDiff struct {
	Path           string   `json:"path"`
	PathBase64     string   `json:"path_base64,omitempty" doc:"The path's bytes, when they are not UTF-8"`
	PreviousPath   string   `json:"previous_path,omitempty" doc:"Of a renamed file"`
	Status         string   `json:"status" enum:"added,modified,deleted,renamed"`
	OldMode        string   `json:"old_mode,omitempty"`
	NewMode        string   `json:"new_mode,omitempty"`
	OldSHA         *git.OID `json:"old_sha,omitempty"`
	NewSHA         *git.OID `json:"new_sha,omitempty"`
	Additions      int      `json:"additions"`
	Deletions      int      `json:"deletions"`
	Binary         bool     `json:"binary,omitempty"`
	Patch          string   `json:"patch,omitempty" doc:"As git diff prints it"`
	PatchTruncated bool     `json:"patch_truncated,omitempty" doc:"The patch is left out or cut because the answer would be too large"`
}

// Diff is what differs between two trees.
type Diff struct {
	Stats     DiffStats  `json:"stats" doc:"Of the files listed"`
	Files     []FileDiff `json:"files"`
	Truncated bool       `json:"truncated,omitempty" doc:"More files differ than are listed"`
}

// CommitDiff is a commit with its difference from its first parent.
type CommitDiff struct {
	Commit
	Diff
}

// Comparison is what head has that base has not.
type Comparison struct {
	Base             git.OID  `json:"base"`
	Head             git.OID  `json:"head"`
	MergeBase        *git.OID `json:"merge_base,omitempty" doc:"Missing when the histories are unrelated"`
	AheadBy          int      `json:"ahead_by" doc:"Commits that only head has"`
	BehindBy         int      `json:"behind_by" doc:"Commits that only base has"`
	Commits          []Commit `json:"commits" doc:"Those that only head has, newest first"`
	CommitsTruncated bool     `json:"commits_truncated,omitempty"`
	Diff
}

// Blame says which commit brought which lines of a file.
type Blame struct {
	Path    string            `json:"path"`
	Commit  git.OID           `json:"commit" doc:"What the revision resolved to"`
	Ranges  []BlameRange      `json:"ranges"`
	Commits map[string]Commit `json:"commits" doc:"The commits that the ranges name, by ID"`
}

// BlameRange is lines that one commit brought.
type BlameRange struct {
	Commit        git.OID `json:"commit"`
	Path          string  `json:"path" doc:"The file's name in that commit"`
	Start         int     `json:"start" doc:"First line, from 1"`
	OriginalStart int     `json:"original_start" doc:"Its number in that commit"`
	Lines         int     `json:"lines"`
}

// Change is a file to write or, with Delete, to remove.
type Change struct {
	Path          string  `json:"path" minLength:"1" maxLength:"4096"`
	Content       *string `json:"content,omitempty" doc:"Text"`
	ContentBase64 []byte  `json:"content_base64,omitempty" doc:"Bytes, instead of content"`
	Mode          string  `json:"mode,omitempty" enum:"100644,100755,120000" doc:"Default: 100644, or as it is if the file exists"`
	Delete        bool    `json:"delete,omitempty"`
}

// CreateCommit asks for a commit that makes many changes at once.
type CreateCommit struct {
	Branch         string   `json:"branch" minLength:"1" maxLength:"1024" doc:"main or refs/heads/main"`
	Message        string   `json:"message" minLength:"1" maxLength:"65536"`
	Author         *Person  `json:"author,omitempty" doc:"Default: the caller"`
	Committer      *Person  `json:"committer,omitempty" doc:"Default: the author"`
	ExpectedParent *git.OID `json:"expected_parent,omitempty" doc:"Where the branch must be now; 40 zeros: it must not exist. Default: wherever it is"`
	StartPoint     string   `json:"start_point,omitempty" maxLength:"1024" doc:"The revision where a branch that does not exist yet starts. Default: with no parent"`
	Changes        []Change `json:"changes" minItems:"1"`
}

// CreatedCommit is a commit made over REST.
type CreatedCommit struct {
	SHA git.OID `json:"sha"`
	Ref string  `json:"ref"`
}

// FetchRequest asks for a pack of what is reachable from Want and not from Have.
type FetchRequest struct {
	Want   []git.OID `json:"want" minItems:"1" maxItems:"100000"`
	Have   []git.OID `json:"have,omitempty" maxItems:"100000" doc:"What the client has; unknown ones are passed over"`
	Filter string    `json:"filter,omitempty" maxLength:"200" example:"blob:none" doc:"A partial clone's filter, as git rev-list --filter"`
}

// PushUpdate asks that a reference move. 40 zeros, or nothing, stand for "does not exist".
type PushUpdate struct {
	Ref string  `json:"ref" example:"refs/heads/main"`
	Old git.OID `json:"old,omitzero" required:"false"`
	New git.OID `json:"new,omitzero" required:"false"`
}

// PushResult is what became of a push: all of it or nothing was done.
type PushResult struct {
	Success   bool           `json:"success"`
	Refs      []Ref          `json:"refs,omitempty" doc:"The references' new values; of a deleted one, zeros"`
	Error     string         `json:"error,omitempty"`
	Conflicts []PushConflict `json:"conflicts,omitempty" doc:"References that are not where the push expected them"`
}

// PushConflict is a reference that has moved on.
type PushConflict struct {
	Ref      string  `json:"ref"`
	Expected git.OID `json:"expected"`
	Actual   git.OID `json:"actual"`
}
