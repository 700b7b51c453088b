// Package revwalk walks history: reachability, merge bases, shallow boundaries, and what a fetch must send.
//
// A Graph is the commits of one odb.Store, in memory. It answers questions about history (IsAncestor, MergeBases,
// AheadBehind, Log, Resolve) without inflating a commit, and makes the Plan of a fetch:
//
//	g, err := revwalk.NewGraph(store, nil)
//	plan, err := g.Plan(ctx, revwalk.Request{Wants: wants, Haves: haves, Thin: true})
//	_, err = store.WritePack(ctx, w, plan.Send, odb.WriteOptions{Given: plan.Given})
//
// Callers may rely on this: what a Plan sends, together with what the client said it has, leaves no link open but those
// that a filter or a shallow boundary cuts. Walks go by dates that are corrected so that no commit is older than its
// parents: a wrong clock cannot make them wrong, only slower. No walk recurses.
package revwalk
