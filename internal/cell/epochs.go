package cell

import "sync"

// epochs say when a pack that was replaced can be closed: when nobody is left who came before it was replaced. They are
// there because views have no Close: a reader that holds the cell may use any view it took since.
//
//	epoch 0: users 0, retired [a b]   ← closed as soon as it is the oldest and has no users
//	epoch 1: users 2, retired [c]
//	epoch 2: users 1                  ← the newest: who comes now counts here
//
// The zero epochs is ready.
type epochs struct {
	mu   sync.Mutex
	list []*epoch // oldest first
}

type epoch struct {
	users   int
	retired []*livePack // replaced at its end: its users, and those of older epochs, may still use them
}

func (e *epochs) newest() *epoch {
	if len(e.list) == 0 {
		e.list = append(e.list, &epoch{})
	}
	return e.list[len(e.list)-1]
}

// enter counts a user.
func (e *epochs) enter() *epoch {
	e.mu.Lock()
	defer e.mu.Unlock()
	ep := e.newest()
	ep.users++
	return ep
}

// leave counts a user out, and closes what nobody uses any more.
func (e *epochs) leave(ep *epoch) {
	e.mu.Lock()
	ep.users--
	done := e.collect()
	e.mu.Unlock()
	closePacks(done)
}

// retire takes packs that no later view has.
func (e *epochs) retire(packs []*livePack) {
	if len(packs) == 0 {
		return
	}
	e.mu.Lock()
	ep := e.newest()
	ep.retired = append(ep.retired, packs...)
	e.list = append(e.list, &epoch{})
	done := e.collect()
	e.mu.Unlock()
	closePacks(done)
}

func (e *epochs) collect() (done []*livePack) {
	for len(e.list) > 1 && e.list[0].users == 0 {
		done = append(done, e.list[0].retired...)
		e.list = e.list[1:]
	}
	return done
}

func (e *epochs) busy() bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, ep := range e.list {
		if ep.users > 0 {
			return true
		}
	}
	return false
}

func closePacks(packs []*livePack) {
	for _, p := range packs {
		p.close()
	}
}
