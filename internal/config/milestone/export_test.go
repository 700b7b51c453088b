package milestone

// DecodeManifest is opened for its fuzz target.
var DecodeManifest = decodeManifest
