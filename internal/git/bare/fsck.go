package bare

import (
	"bufio"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"

	"github.com/skep-dev/skep/internal/errkind"
	"github.com/skep-dev/skep/internal/git"
)

// fatalIDs are messages of fsck that git does not let anybody weigh less.
var fatalIDs = []string{"nulinheader", "unterminatedheader"}

// fscks says whether objects that come in are judged.
func (r *Repo) fscks(kind string) bool {
	return r.config.Bool(kind+".fsckobjects", r.config.Bool("transfer.fsckobjects", false))
}

// fsckCheck is how objects that come in are judged: by git.Check where <kind>.fsckObjects or transfer.fsckObjects is on, its messages
// weighed by <kind>.fsck.<id>, else not at all. warn hears of what is let pass.
func (r *Repo) fsckCheck(kind string, warn func(string)) (func(git.Kind, git.OID, []byte) error, error) {
	if !r.fscks(kind) {
		return anything, nil
	}
	weights, skip := map[string]string{"badfilemode": "warn"}, map[git.OID]bool{}
	var err error
	r.config.Prefix(kind+".fsck.", func(id, value string) {
		path := value
		value = strings.ToLower(value)
		var bad error
		switch {
		case id == "skiplist":
			bad = r.readSkipList(path, skip)
		case slices.Contains(fatalIDs, id) && value != "error":
			bad = fmt.Errorf("Cannot demote %s to %s: %w", id, value, errkind.Invalid) //nolint:staticcheck // git's words
		case !slices.Contains(fsckIDs, id):
			warn("warning: skipping unknown msg id '" + id + "'")
		}
		weights[id], err = value, errors.Join(err, bad)
	})
	if err != nil {
		return nil, err
	}
	return func(k git.Kind, o git.OID, data []byte) error {
		checkErr := git.Check(k, data)
		if checkErr == nil || skip[o] {
			return nil
		}
		text := fmt.Sprintf("object %s: %s", o, strings.TrimSuffix(checkErr.Error(), ": "+errkind.Invalid.Error()))
		id, _, _ := strings.Cut(checkErr.Error(), ":")
		switch weights[strings.ToLower(id)] {
		case "ignore":
			return nil
		case "warn":
			warn("warning: " + text)
			return nil
		}
		return fmt.Errorf("%s: %w", text, errkind.Invalid)
	}, nil
}

// fsckIDs are the messages that git.Check has, in lower case.
var fsckIDs = []string{
	"badfilemode", "badname", "badtimezone", "badtree", "badtreesha1", "badparentsha1", "badobjectsha1", "badtype", "baddate", "bademail", "baddateoverflow",
	"duplicateentries", "emptyname", "fullpathname", "hasdot", "hasdotdot", "hasdotgit", "largepathname", "missingauthor", "missingcommitter",
	"missingemail", "missingnamebeforeemail", "missingobject", "missingspacebeforedate", "missingspacebeforeemail", "missingtag",
	"missingtagentry", "missingtree", "missingtype", "missingtypeentry", "multipleauthors", "nulincommit", "nulinheader", "nullsha1",
	"treenotsorted", "unknowntype", "unterminatedheader", "zeropaddeddate", "zeropaddedfilemode", "gitmodulesname", "gitmodulesurl",
	"gitmodulespath", "gitmodulesupdate", "gitmodulessymlink", "gitmodulesblob", "gitmoduleslarge", "gitmodulesmissing", "gitmodulesparse",
	"badtagname", "missingtaggerentry",
}

// readSkipList reads IDs of objects, one in a line.
func (r *Repo) readSkipList(path string, skip map[git.OID]bool) error {
	if !filepath.IsAbs(path) {
		path = filepath.Join(r.dir, path)
	}
	f, err := openRegular(path)
	if err != nil {
		return fmt.Errorf("could not open object name list: %s: %w", filepath.Base(path), errkind.Invalid)
	}
	defer func() { _ = f.Close() }()
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		text, _, _ := strings.Cut(lines.Text(), "#")
		if text = strings.TrimSpace(text); text == "" {
			continue
		}
		o, err := git.ParseOID(text)
		if err != nil {
			return fmt.Errorf("invalid object name: %s: %w", text, errkind.Invalid)
		}
		skip[o] = true
	}
	return lines.Err()
}
