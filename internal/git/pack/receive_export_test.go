package pack

import "os"

// ArraysInFiles has everything that grows with the number of objects lie in files, as it does of large packs.
func (o ReceiveOptions) ArraysInFiles() ReceiveOptions { return o.ArraysInFilesAfter(1) }

// ArraysInFilesAfter is ArraysInFiles for arrays of more than so many elements.
func (o ReceiveOptions) ArraysInFilesAfter(elements int) ReceiveOptions {
	o.arenaAfter = elements
	return o
}

// BeforeReserve has f called before blocks of the disk are allocated for an array. Its error is the disk's.
func (o ReceiveOptions) BeforeReserve(f func(size int64) error) ReceiveOptions {
	o.reserve = func(file *os.File, size int64) error {
		if err := f(size); err != nil {
			return err
		}
		return reserveBlocks(file, size)
	}
	return o
}

// CollisionSum hashes bytes as objects are hashed, without an object's header: the known attacks have none.
func CollisionSum(data []byte) error {
	j := newJudge(nil, nil)
	j.hash.Write(data)
	_, err := j.endHash()
	return err
}
