// Package router brings a call to a cell, on this node.
//
// A Router is the one road to a repository: above it nobody knows package cell. It opens cells when they are first
// needed, hands them out, and closes them when they are idle, so that a repository which nobody uses costs files on disk
// and no memory.
//
//	r, err := router.Open(ctx, dir, router.Options{})
//	go r.Run(ctx) // closes what is idle, compacts what is busy
//	repo, err := r.Repo(ctx, tenant, id)
//	defer repo.Release()
//	view := repo.View()
//
// Below the data directory:
//
//	router.lock                        held while a process serves the directory
//	cells/8y/repo_….db                 a cell's database; the folder is the end of its name, so that a million cells
//	                                   make a thousand files in each of a thousand folders
//	files/packs/TENANT/REPO/SUM.pack   large packs, with .idx and .table
//	cache/answers/                     finished answers, emptied at the start
//	tmp/                               what is being received or made of big deltas, emptied at the start
package router
