package cache

// WaitMakers waits until no answer is in the making.
func (a *Answers) WaitMakers() { a.makers.Wait() }

// Followers is how many callers follow an answer in the making.
func (a *Answers) Followers(key Key) int {
	a.mu.Lock()
	defer a.mu.Unlock()
	an, ok := a.running[key]
	if !ok {
		return 0
	}
	an.mu.Lock()
	defer an.mu.Unlock()
	return len(an.followers)
}
