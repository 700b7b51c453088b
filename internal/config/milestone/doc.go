// Package milestone writes what a document says to a Git repository, and reads it back.
//
// A milestone is a commit: a folder for each environment, in it a file for each type of entity, and a message that tells every operation
// since the milestone before. It goes to a Repo, of which there are those that git keeps (package gitrepo) and those in cells (cellrepo).
//
//	p, err := milestone.Project(ctx, state, []string{"production", "staging"}, yaml)
//	m, err := milestone.Create(ctx, repo, p, log.Since, milestone.Options{Branch: "main", Message: "post-canary traffic shift"})
//	list, err := milestone.List(ctx, repo, "main", 10)
//
// The same operations make the same bytes, on whatever node. Each operation is in exactly one milestone of a branch: in the first one
// whose version has it. Files that no milestone wrote stay as they are.
package milestone
