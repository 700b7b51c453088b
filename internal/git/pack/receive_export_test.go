package pack

// CollisionSum hashes bytes as objects are hashed, without an object's header: the known attacks have none.
func CollisionSum(data []byte) error {
	j := newJudge(nil)
	j.hash.Write(data)
	_, err := j.endHash()
	return err
}
