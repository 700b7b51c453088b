package bus

// Join puts the parts of an answer together.
func Join(headers []string, parts [][]byte) (data []byte, done bool, err error) {
	var a answer
	for i, header := range headers {
		if done, err = a.add(header, parts[i]); done || err != nil {
			break
		}
	}
	return a.data, done, err
}
