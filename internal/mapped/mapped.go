// Package mapped brings a file's content into memory that the system may take back: a page that is not in use lies on disk
// alone. Where a system cannot do that, it reads the file.
//
//	b, err := mapped.File(f, size, false)
//	…
//	err = mapped.Release(b) // nobody may look at b any more
package mapped
