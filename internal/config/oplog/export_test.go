package oplog

// Pack and Unpack are the form of a block, for its own test.
var (
	Pack   = pack
	Unpack = unpack
)

// ItemBytes is how much data goes into one item of DynamoDB.
const ItemBytes = itemBytes
